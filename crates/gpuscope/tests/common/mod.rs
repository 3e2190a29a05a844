//! The real binary, run over trees.

#![allow(dead_code, reason = "each test file uses a part")]

use gpuscope_testkit::Tree;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The binary with an environment that does not depend on who runs the tests.
pub(crate) fn gpuscope() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpuscope"));
    command.env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR").env_remove("COLUMNS");
    command
}

/// The binary in the folder of the tree, with `--root .`: paths in messages are the same everywhere.
pub(crate) fn over(tree: &Tree, args: &[&str]) -> Command {
    let mut command = gpuscope();
    command.current_dir(tree.root()).args(["--root", "."]).args(args);
    command
}

/// What it writes; it has to succeed without a word on stderr.
#[track_caller]
pub(crate) fn stdout(command: &mut Command) -> String {
    let out = command.output().unwrap();
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success() && stderr.is_empty(), "{command:?}: {}: {stderr}", out.status);
    String::from_utf8(out.stdout).unwrap()
}

/// Its status and its single line on stderr.
#[track_caller]
pub(crate) fn complaint(command: &mut Command) -> (i32, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(stdout.is_empty(), "{command:?} wrote to stdout");
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{command:?}: {stderr:?}");
    (status.code().unwrap(), stderr)
}

/// The lines as objects, each valid against the schema that it names.
#[track_caller]
pub(crate) fn valid_lines(text: &str) -> Vec<Value> {
    assert!(text.is_empty() || text.ends_with('\n'), "cut off: {text:?}");
    text.lines().map(valid_line).collect()
}

/// One line as an object, valid against the schema that it names, every null of a GPU with its reason.
#[track_caller]
pub(crate) fn valid_line(line: &str) -> Value {
    assert!(line.starts_with("{\"schema\":\"gpuscope."), "{line}");
    let object: Value = serde_json::from_str(line).unwrap();
    let name = object["schema"].as_str().unwrap().strip_prefix("gpuscope.").unwrap().strip_suffix("/1").unwrap();
    let path = repository().join(format!("docs/schema/{name}.schema.json"));
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(&object).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{name}: {errors:#?}\n{object:#}");
    for gpu in object["gpus"].as_array().into_iter().flatten() {
        assert_eq!(nulls(gpu), reasons(gpu), "nulls and reasons of {gpu:#}");
    }
    if object["clients"].is_array() {
        assert_eq!(nulls_of_users(&object), reasons_of_users(&object), "nulls and reasons of {object:#}");
    }
    object
}

/// Paths of the null fields of a GPU, sorted.
fn nulls(gpu: &Value) -> Vec<String> {
    fn walk(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Null => found.push(path.to_string()),
            Value::Array(items) => {
                for item in items {
                    let label = ["name", "label", "region", "gt"].iter().find_map(|key| match &item[*key] {
                        Value::Null => None,
                        Value::String(s) => Some(s.clone()),
                        other => Some(other.to_string()),
                    });
                    let mut label = label.unwrap_or_default();
                    if let Some(gpu) = item["gpu"].as_str() {
                        label = format!("{gpu}/{label}");
                    }
                    walk(item, &format!("{path}[{label}]"), found);
                }
            }
            Value::Object(fields) => {
                for (key, value) in fields {
                    // Their nulls mean "does not apply".
                    if path.is_empty() && (key == "unavailable" || key == "sriov") {
                        continue;
                    }
                    let dot = if path.is_empty() { "" } else { "." };
                    walk(value, &format!("{path}{dot}{key}"), found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(gpu, "", &mut found);
    found.sort();
    found
}

/// The same for clients and for the sums of containers.
fn nulls_of_users(object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for client in object["clients"].as_array().unwrap() {
        let key = match client["client_id"].as_u64() {
            Some(id) => id.to_string(),
            None => format!("pid{}", client["pid"]),
        };
        let key = format!("clients[{}/{key}]", client["gpu"].as_str().unwrap());
        // A client without a name or a number has none.
        let of = nulls(client).into_iter().filter(|path| path != "client_name" && path != "client_id");
        found.extend(of.map(|path| format!("{key}.{path}")));
    }
    for cgroup in object["cgroups"].as_array().unwrap() {
        let key = format!("cgroups[{}]", cgroup["cgroup"].as_str().unwrap());
        found.extend(nulls(cgroup).into_iter().map(|path| format!("{key}.{path}")));
    }
    for group in object["containers"].as_array().into_iter().flatten() {
        let key = group["container"].as_str().or(group["cgroup"].as_str()).unwrap_or("-");
        // One of the two says which processes are meant.
        let of = nulls(group).into_iter().filter(|path| path != "container" && path != "cgroup");
        found.extend(of.map(|path| format!("containers[{key}].{path}")));
    }
    found.sort();
    found
}

fn reasons_of_users(object: &Value) -> Vec<String> {
    // `clients` itself, or those of a GPU, may be missing some.
    let gap = |path: &str| path == "clients" || (path.starts_with("clients[") && path.ends_with(']'));
    reasons(object).into_iter().filter(|path| !gap(path)).collect()
}

fn reasons(gpu: &Value) -> Vec<String> {
    let mut paths: Vec<String> =
        gpu["unavailable"].as_array().unwrap().iter().map(|u| u["metric"].as_str().unwrap().to_string()).collect();
    paths.sort();
    paths
}

/// The reason why a field is null.
#[track_caller]
pub(crate) fn reason<'v>(gpu: &'v Value, metric: &str) -> &'v str {
    let all = gpu["unavailable"].as_array().unwrap();
    let entry = all.iter().find(|u| u["metric"] == metric);
    entry.unwrap_or_else(|| panic!("{metric} is not among {all:#?}"))["reason"].as_str().unwrap()
}

/// Replaces what differs from run to run, and lays the object out over lines.
pub(crate) fn normalised(mut object: Value) -> String {
    let fields = object.as_object_mut().unwrap();
    for name in ["time", "monotonic_ns", "interval_s"] {
        if let Some(value) = fields.get_mut(name) {
            *value = "(varies)".into();
        }
    }
    without_read_times(&mut object);
    format!("{object:#}\n")
}

/// Replaces when the clients were read, which is known of each.
pub(crate) fn without_read_times(object: &mut Value) {
    for client in object.get_mut("clients").and_then(Value::as_array_mut).into_iter().flatten() {
        assert!(client["read_monotonic_ns"].is_u64(), "{client}");
        client["read_monotonic_ns"] = "(varies)".into();
    }
}

/// Path of a golden file.
pub(crate) fn golden_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
