//! A compiled program, fitted to the running kernel and loaded.

use super::btf::{self, Misfit};
use super::call::{self, Name};
use super::error::BpfError;
use crate::Roots;
use aya_obj::Object;
use aya_obj::btf::Btf;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Compiled programs, where the ELF reader may look at their words in place.
#[repr(C, align(8))]
pub(super) struct Aligned<T: ?Sized>(pub(super) T);

/// What the verifier may say of a program that it refuses.
const LOG_BYTES: usize = 64 << 10;

/// An iterator that the kernel has taken, with its one map.
#[derive(Debug)]
pub(super) struct Iterator {
    pub(super) map: OwnedFd,
    pub(super) link: OwnedFd,
}

/// Which parts of an object make an iterator.
pub(super) struct Parts {
    /// The program: a function's name.
    pub(super) program: &'static str,
    /// The kernel's iterator: `task_file`.
    pub(super) iterator: &'static str,
    /// The map.
    pub(super) map: &'static str,
    /// What the kernel is to call both, for those who list the programs of a machine.
    pub(super) name: Name,
}

/// Loads and attaches the iterator in `object`.
pub(super) fn load_iterator(roots: &Roots, object: &[u8], parts: &Parts) -> Result<Iterator, BpfError> {
    let mut object = Object::parse(object).map_err(broken)?;
    // First what costs little: a process without rights learns it here on most machines.
    let definition = object.maps.get(parts.map).ok_or_else(|| broken(parts.map))?;
    let map = call::map_create(definition, parts.name).map_err(|e| BpfError::calling("BPF_MAP_CREATE", e))?;

    let (types, iterator) = kernel_types(roots, &object, parts.iterator)?;
    object.relocate_btf(&types).map_err(|e| broken(with_sources(&e)))?;

    let maps = std::mem::take(&mut object.maps);
    let wanted = maps.iter().filter(|(name, _)| *name == parts.map);
    object
        .relocate_maps(wanted.map(|(name, map_of)| (name.as_str(), map.as_raw_fd(), map_of)), &HashSet::new())
        .map_err(broken)?;
    let program = object.programs.get(parts.program).ok_or_else(|| broken(parts.program))?;
    let code = object.functions.get(&program.function_key()).ok_or_else(|| broken(parts.program))?;
    let load = |log: &mut [u8]| call::load_iterator(&code.instructions, &program.license, iterator, parts.name, log);
    let program = load(&mut []).map_err(|e| refused(e, load))?;
    let link = call::link_iterator(program.as_fd()).map_err(|e| BpfError::calling("BPF_LINK_CREATE", e))?;
    // The link keeps the program.
    Ok(Iterator { map, link })
}

/// The object's types as the running kernel has them, and the number of the iterator's function there.
fn kernel_types(roots: &Roots, object: &Object, iterator: &str) -> Result<(Btf, u32), BpfError> {
    let path = roots.sys("kernel/btf/vmlinux");
    let kernel = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(BpfError::NoBtf { path }),
        Err(source) => return Err(BpfError::Io { call: path.display().to_string(), source }),
    };
    let mut own = object.btf.as_ref().ok_or_else(|| broken("no type information"))?.to_bytes();
    let function = format!("bpf_iter_{iterator}");
    let number = btf::fit(&mut own, kernel, &function).map_err(|misfit| match misfit {
        Misfit::Io(source) => BpfError::Io { call: path.display().to_string(), source },
        Misfit::Function => BpfError::Unsupported { what: format!("this kernel has no {function}") },
        Misfit::Member(member) => {
            BpfError::Unsupported { what: format!("this kernel's structures lack a field that is read: {member}") }
        }
        Misfit::Malformed(what) => BpfError::Unsupported { what: format!("{}: {what}", path.display()) },
    })?;
    let types = Btf::parse(&own, object.endianness).map_err(|e| broken(with_sources(&e)))?;
    Ok((types, number))
}

/// Sorts the answer to loading a program; what the verifier minds is asked for in a second try.
fn refused(source: io::Error, load: impl Fn(&mut [u8]) -> io::Result<OwnedFd>) -> BpfError {
    // EACCES is the verifier's word for an access that it does not allow, too: it then has more to say.
    if !matches!(source.raw_os_error(), Some(libc::EACCES | libc::EINVAL)) {
        return BpfError::calling("BPF_PROG_LOAD", source);
    }
    let mut log = vec![0; LOG_BYTES];
    let again = load(&mut log);
    let text = log.split(|byte| *byte == 0).next().unwrap_or_default();
    if again.is_ok() || text.is_empty() {
        return BpfError::calling("BPF_PROG_LOAD", source);
    }
    let text = String::from_utf8_lossy(text);
    let mut lines: Vec<&str> = text.lines().rev().filter(|line| !line.starts_with("processed ")).take(3).collect();
    lines.reverse();
    BpfError::Rejected { source, log: lines.join("; ") }
}

/// A fault of the object that this crate carries.
fn broken(what: impl std::fmt::Display) -> BpfError {
    BpfError::Unsupported { what: format!("the compiled program is broken: {what}") }
}

/// An error of `aya-obj` in one line: its messages leave the cause to the source.
fn with_sources(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
