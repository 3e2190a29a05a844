//! The JSON Schemas of docs/schema: readable, self-contained, named as the documents say.
//!
//! That the output obeys them is proved by the tests of the binary, with a full validator.

use crate::sh::root;
use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Checks every `docs/schema/*.json`.
pub(crate) fn check() -> Result<()> {
    let dir = root().join("docs/schema");
    let entries = std::fs::read_dir(&dir).with_context(|| format!("no schemas: {}", dir.display()))?;
    let mut count = 0;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let schema: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        check_one(&schema).with_context(|| path.display().to_string())?;
        count += 1;
    }
    if count == 0 {
        bail!("no schema in {}", dir.display());
    }
    println!("{count} schemas");
    Ok(())
}

fn check_one(schema: &Value) -> Result<()> {
    let dialect = schema.get("$schema").and_then(Value::as_str).context("no $schema")?;
    if !dialect.starts_with("https://json-schema.org/draft/") {
        bail!("unknown dialect {dialect}");
    }
    if schema.get("title").and_then(Value::as_str).is_none() {
        bail!("no title");
    }
    references(schema, schema)
}

/// Every `$ref` points into the same document, at something.
fn references(document: &Value, at: &Value) -> Result<()> {
    if let Some(target) = at.get("$ref").and_then(Value::as_str) {
        let pointer = target.strip_prefix('#').with_context(|| format!("$ref {target} leaves the document"))?;
        document.pointer(pointer).with_context(|| format!("$ref {target} points at nothing"))?;
    }
    match at {
        Value::Array(items) => items.iter().try_for_each(|v| references(document, v)),
        Value::Object(fields) => fields.values().try_for_each(|v| references(document, v)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_must_resolve() {
        let good = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "t",
            "$defs": {"a": {"type": "null"}}, "items": [{"$ref": "#/$defs/a"}]});
        check_one(&good).unwrap();
        let mut bad = good;
        bad["items"][0]["$ref"] = json!("#/$defs/b");
        assert!(check_one(&bad).unwrap_err().to_string().contains("points at nothing"));
    }
}
