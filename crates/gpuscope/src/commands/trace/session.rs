//! Sessions in the background: `start`, `stop`, `status`, `change`, `save`.
//!
//! `start` runs this program again, which becomes the session and says when the capture runs. A session's state is in a folder that only its
//! owner can look into: `NAME.json`, which says what it is and is locked as long as it lives, `NAME.sock`, on which it answers, and
//! `NAME.log`, its stderr. The lock tells a session that was killed from one that lives, whatever became of its process number.

mod attend;
mod control;
mod place;
mod recorder;
mod start;
mod state;

pub(super) use start::start;

use super::keep;
use crate::args::{Change, Common, Format, Named, Save, Status};
use anyhow::bail;
use control::{Request, ask};
use gpuscope_sys::Roots;
use place::{Found, Place};
use state::State;
use std::io::{self, Write as _};

/// Ends a session, and says where its recording is.
pub(super) fn stop(common: &Common, args: &Named) -> anyhow::Result<()> {
    let place = Place::open(&args.name)?;
    let mut state = match place.look()? {
        Found::Nothing => bail!("there is no session {}; `gpuscope trace status` lists those that run", args.name),
        Found::Dead(described) => {
            place.clear();
            State::of_dead(&args.name, &described)
        }
        Found::Alive(_) => ask(&place, &Request::Stop)?,
    };
    // One that ended by itself has said why; one that was killed did not do what it was to do.
    let killed = (state.state == "killed").then(|| state.detail.take().unwrap_or_default());
    tell(common, &[state])?;
    match killed {
        Some(detail) => bail!("session {}: {detail}", args.name),
        None => Ok(()),
    }
}

/// Says how sessions are.
pub(super) fn status(common: &Common, args: &Status) -> anyhow::Result<()> {
    let names = match &args.name {
        Some(name) => vec![name.clone()],
        None => place::names()?,
    };
    let mut states = Vec::new();
    for name in names {
        let place = Place::open(&name)?;
        match place.look()? {
            Found::Nothing if args.name.is_some() => {
                bail!("there is no session {name}; `gpuscope trace start` begins one")
            }
            Found::Nothing => {}
            Found::Dead(described) => states.push(State::of_dead(&name, &described)),
            Found::Alive(described) => states.push(match ask(&place, &Request::Status) {
                Ok(state) => state,
                // It may just have ended.
                Err(error) => match place.look()? {
                    Found::Alive(_) => State::without_answer(&name, &described, &format!("{error:#}")),
                    Found::Dead(described) => State::of_dead(&name, &described),
                    Found::Nothing => continue,
                },
            }),
        }
    }
    tell(common, &states)
}

/// Has a session keep other jobs from now on.
pub(super) fn change(common: &Common, args: &Change) -> anyhow::Result<()> {
    let place = Place::open(&args.name)?;
    match place.look()? {
        Found::Alive(_) => {}
        _ => bail!("no session {} runs; `gpuscope trace start` begins one", args.name),
    }
    // The session works in another folder than who asks. One that is gone has no cgroup in it.
    let here = std::env::current_dir().unwrap_or_default();
    let keep = keep::from_anywhere(&args.keep, &here, &Roots::host())?;
    let state = ask(&place, &Request::Change(keep::arguments(&keep)))?;
    tell(common, &[state])
}

/// Has a flight recorder save what it holds.
pub(super) fn save(common: &Common, args: &Save) -> anyhow::Result<()> {
    let place = Place::open(&args.name)?;
    match place.look()? {
        Found::Alive(_) => {}
        _ => bail!("no session {} runs; `gpuscope trace start --flight 30s` begins one", args.name),
    }
    let reason: String = args.reason.iter().flat_map(|text| text.chars()).filter(|c| !c.is_control()).collect();
    let state = ask(&place, &Request::Save(reason))?;
    let saved = state.flight.as_ref().and_then(|flight| flight.saved.last());
    let Some(saved) = saved else { bail!("session {}: nothing was saved", args.name) };
    if common.format() == Format::Json {
        return tell(common, &[state]);
    }
    writeln!(io::stdout().lock(), "{}: {} events; see `gpuscope trace report {0}`", saved.file, saved.events)?;
    Ok(())
}

fn tell(common: &Common, states: &[State]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match common.format() {
        Format::Json => state::json(&mut out, states)?,
        _ => state::text(&mut out, states)?,
    }
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests;
