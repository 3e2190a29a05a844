use super::attend::only_in_part;
use super::control::{Request, ask, listen};
use super::place::{Described, Ended, Found, Place};
use super::state::{self, Alarm, Flight, Saved, State};
use gpuscope_trace::capture::CaptureError;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

fn place(dir: &Path) -> Place {
    let of = |suffix: &str| dir.join("state").join(format!("one.{suffix}"));
    let place = Place { json: of("json"), socket: of("sock"), log: of("log") };
    place.make_folder().unwrap();
    place
}

fn described() -> Described {
    Described {
        pid: 77,
        started: "2026-01-02T03:04:05.678Z".into(),
        output: "/var/tmp/t".into(),
        backend: "bpf".into(),
        is_flight: false,
        ended: None,
    }
}

fn running() -> State {
    State {
        elapsed_s: Some(12.5),
        events: Some(1234),
        file_bytes: None,
        max_file_bytes: Some(8 << 20),
        dropped: Some(BTreeMap::from([("ring_full".into(), 3), ("missed".into(), 0)])),
        settings: Some(vec!["--pid 12".into(), "--sample 10%".into()]),
        notes: Some(vec!["--max-cpu 1.00% cannot be met".into()]),
        alarm: Some(Alarm { threshold_s: 2.0, raised: 1, stuck: vec!["stuck: a job".into()] }),
        flight: Some(Flight {
            span_s: 30.0,
            after_s: 2.0,
            held_s: 29.5,
            held_bytes: 1 << 20,
            max_bytes: 64 << 20,
            pushed_out_events: 5,
            triggers: 2,
            not_saved: 1,
            saved: vec![Saved { file: "/var/tmp/f".into(), reason: "stuck: a job".into(), events: 10 }],
        }),
        state: "flight".into(),
        detail: None,
        unavailable: Vec::new(),
        ..State::of_dead("one", &described())
    }
}

#[test]
fn what_sessions_say_is_as_the_schema_has_it() {
    let ended = |failed| Described { ended: Some(Ended { failed, detail: "why".into() }), ..described() };
    let states = [
        running(),
        State::of_dead("killed", &described()),
        State::of_dead("failed", &ended(true)),
        State::of_dead("ended", &ended(false)),
        State::of_dead("new", &Described::default()),
        State::without_answer("mute", &described(), "timed out"),
    ];
    let mut text = Vec::new();
    state::json(&mut text, &states).unwrap();
    let object: Value = serde_json::from_slice(&text).unwrap();
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema/trace_status.schema.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(schema).unwrap()).unwrap();
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(&object).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{object:#}");
    let states: Vec<&str> =
        object["sessions"].as_array().unwrap().iter().map(|of| of["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["flight", "killed", "failed", "ended", "killed", "no_answer"]);
    // Every null that says nothing by itself has its reason.
    for of in object["sessions"].as_array().unwrap() {
        let why: Vec<&str> =
            of["unavailable"].as_array().unwrap().iter().map(|why| why["metric"].as_str().unwrap()).collect();
        let nulls: Vec<&str> = ["elapsed_s", "events", "dropped", "settings", "notes"]
            .into_iter()
            .filter(|field| of[*field].is_null())
            .collect();
        assert_eq!(why, nulls, "{of:#}");
    }
}

#[test]
fn what_cannot_be_kept_up_is_told_with_the_settings() {
    let mut text = Vec::new();
    state::text(&mut text, &[running()]).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("  keeps --pid 12 --sample 10%\n  --max-cpu 1.00% cannot be met\n"), "{text}");
}

#[test]
fn settings_that_are_in_force_in_part_are_not_told_as_refused() {
    assert!(matches!(only_in_part(Ok(())), Ok(None)));
    let told = only_in_part(Err(CaptureError::InForce { what: "a child is not listed".into() })).unwrap().unwrap();
    assert!(told.contains("are in force") && told.ends_with("a child is not listed"), "{told}");
    let refused = only_in_part(Err(CaptureError::Failed { what: "no room".into() })).unwrap_err();
    assert_eq!(refused.to_string(), "no room");
}

#[test]
fn a_session_is_alive_as_long_as_it_holds_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let place = place(dir.path());
    assert!(matches!(place.look().unwrap(), Found::Nothing));
    let mut held = place.hold().unwrap().unwrap();
    // Before it has said what it is.
    assert!(matches!(place.look().unwrap(), Found::Alive(of) if of.pid == 0));
    held.describe(&Described { output: "longer than the next one".into(), ..described() }).unwrap();
    held.describe(&described()).unwrap();
    assert!(matches!(place.look().unwrap(), Found::Alive(of) if of.output == "/var/tmp/t"));
    assert!(place.hold().unwrap().is_none(), "one at a time");
    drop(held);
    assert!(matches!(place.look().unwrap(), Found::Dead(of) if of.pid == 77));
    assert!(place.hold().unwrap().is_some(), "a dead one's place can be taken");
    place.clear();
    assert!(matches!(place.look().unwrap(), Found::Nothing));
}

#[test]
fn a_folder_that_others_can_look_into_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let place = place(dir.path());
    fs::set_permissions(dir.path().join("state"), fs::Permissions::from_mode(0o755)).unwrap();
    let error = place.make_folder().unwrap_err().to_string();
    assert!(error.contains("not a folder of this user's alone"), "{error}");
}

#[test]
fn a_session_answers_who_asks_and_outlives_who_asks_nonsense() {
    let dir = tempfile::tempdir().unwrap();
    let place = place(dir.path());
    let asked = listen(&place).unwrap();
    for nonsense in ["\n", "{\"Status\"\n", "\"Fly\"\n", ""] {
        UnixStream::connect(&place.socket).unwrap().write_all(nonsense.as_bytes()).unwrap();
    }
    let answering = std::thread::spawn(move || {
        let first = asked.recv().unwrap();
        assert!(matches!(first.request, Request::Status));
        first.answer(running());
        let second = asked.recv().unwrap();
        assert!(matches!(&second.request, Request::Save(reason) if reason == "to see"));
        second.refuse("there is nothing to save".into());
    });
    assert_eq!(ask(&place, &Request::Status).unwrap().events, Some(1234));
    assert_eq!(ask(&place, &Request::Save("to see".into())).unwrap_err().to_string(), "there is nothing to save");
    answering.join().unwrap();
    // Its thread may still listen; a socket that is gone is told by name.
    place.clear();
    assert!(ask(&place, &Request::Status).unwrap_err().to_string().contains("the session does not answer"));
}
