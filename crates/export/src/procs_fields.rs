//! The fields of a client, and of a container's sums, as a flat list in the order of the JSON output.

use crate::fields::Value;
use crate::procs::{ClientRow, Group, private_bytes};
use crate::units::percent;
use gpuscope_model::{Reading, Text, Why};

/// One field of a client or a container. Its path in JSON: `clients[<key>].<list>[<item>].<field>`.
pub(crate) struct ProcsField<'a> {
    /// The list within the client: its name, the entry's name. A container's entries are named with their GPU.
    pub(crate) list: Option<(&'static str, Item<'a>)>,
    pub(crate) field: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) value: Result<Value, &'a Why>,
}

/// Name of an entry.
#[derive(Clone, Copy)]
pub(crate) struct Item<'a> {
    pub(crate) gpu: Option<&'a str>,
    pub(crate) name: &'a str,
}

impl std::fmt::Display for Item<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.gpu {
            Some(gpu) => write!(f, "{gpu}/{}", self.name),
            None => f.write_str(self.name),
        }
    }
}

impl std::fmt::Display for ProcsField<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.list {
            Some((list, item)) => write!(f, "{list}[{item}].{}", self.field),
            None => f.write_str(self.field),
        }
    }
}

type Found<'f, E> = &'f mut dyn FnMut(ProcsField<'_>) -> Result<(), E>;

fn text<'a>(fact: Result<&Text, &'a Why>) -> Result<Value, &'a Why> {
    fact.map(|t| Value::Text(t.clone()))
}

fn reading<T: Copy>(r: &Reading<T>, value: impl FnOnce(T) -> Value) -> Result<Value, &Why> {
    match r {
        Reading::Value(v) => Ok(value(*v)),
        Reading::Absent(why) => Err(why),
    }
}

fn scalar<E>(
    found: Found<'_, E>,
    field: &'static str,
    unit: &'static str,
    value: Result<Value, &Why>,
) -> Result<(), E> {
    found(ProcsField { list: None, field, unit, value })
}

/// Calls `found` with every field of a client that may be unknown, and with its pid.
pub(crate) fn each_client_field<E>(row: &ClientRow<'_>, found: Found<'_, E>) -> Result<(), E> {
    scalar(found, "pid", "", Ok(Value::Whole(row.client.pid.into())))?;
    scalar(found, "read_monotonic_ns", "nanoseconds", reading(&row.client.read_ns, Value::Whole))?;
    scalar(found, "comm", "", text(row.comm()))?;
    scalar(found, "command_line", "", text(row.command_line()))?;
    scalar(found, "uid", "", row.uid().map(|uid| Value::Whole(uid.into())))?;
    scalar(found, "user", "", text(row.user()))?;
    scalar(found, "cgroup", "", text(row.cgroup()))?;
    scalar(found, "container", "", text(row.container()))?;
    for e in &row.client.engines {
        let list = Some(("engines", Item { gpu: None, name: &e.name }));
        let value = reading(&e.busy_ratio, |v| Value::Number(percent(v)));
        found(ProcsField { list, field: "busy_percent", unit: "percent", value })?;
    }
    for m in &row.client.memory {
        let list = Some(("memory", Item { gpu: None, name: &m.region }));
        let private = private_bytes(m);
        for (field, r) in [
            ("total_bytes", &m.total_bytes),
            ("shared_bytes", &m.shared_bytes),
            ("private_bytes", &private),
            ("resident_bytes", &m.resident_bytes),
            ("active_bytes", &m.active_bytes),
            ("purgeable_bytes", &m.purgeable_bytes),
        ] {
            found(ProcsField { list, field, unit: "bytes", value: reading(r, Value::Whole) })?;
        }
    }
    scalar(found, "cpu_percent", "percent", row.cpu_ratio().map(|v| Value::Number(percent(v))))?;
    scalar(found, "rss_bytes", "bytes", row.rss_bytes().map(Value::Whole))?;
    let awake = |v| Value::Word(if v { "true" } else { "false" });
    scalar(found, "keeps_awake", "", reading(&row.keeps_awake, awake))
}

/// Calls `found` with every field of a container's sums that may be unknown, and with its number of clients.
pub(crate) fn each_group_field<E>(group: &Group<'_>, found: Found<'_, E>) -> Result<(), E> {
    scalar(found, "clients", "", Ok(Value::Whole(group.clients as u64)))?;
    for e in &group.engines {
        let list = Some(("engines", Item { gpu: Some(e.gpu.as_str()), name: e.name }));
        let value = reading(&e.busy_ratio, |v| Value::Number(percent(v)));
        found(ProcsField { list, field: "busy_percent", unit: "percent", value })?;
    }
    for m in &group.memory {
        let list = Some(("memory", Item { gpu: Some(m.gpu.as_str()), name: m.region }));
        let value = reading(&m.resident_bytes, Value::Whole);
        found(ProcsField { list, field: "resident_bytes", unit: "bytes", value })?;
    }
    scalar(found, "cpu_percent", "percent", reading(&group.cpu_ratio, |v| Value::Number(percent(v))))?;
    scalar(found, "rss_bytes", "bytes", reading(&group.rss_bytes, Value::Whole))?;
    scalar(found, "charged_bytes", "bytes", reading(&group.charged_bytes, Value::Whole))
}
