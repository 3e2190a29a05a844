//! A compiled program, fitted to the running kernel and loaded.

use super::call::{self, Name};
use super::error::BpfError;
use crate::Roots;
use aya_obj::Object;
use aya_obj::btf::{Btf, BtfError, BtfKind};
use std::collections::HashSet;
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
///
/// The kernel's type information is some megabytes; reading it takes 25 ms, once, and it is not kept.
pub(super) fn load_iterator(roots: &Roots, object: &[u8], parts: &Parts) -> Result<Iterator, BpfError> {
    let mut object = Object::parse(object).map_err(broken)?;
    // First what costs little: a process without rights learns it here on most machines.
    let definition = object.maps.get(parts.map).ok_or_else(|| broken(parts.map))?;
    let map = call::map_create(definition, parts.name).map_err(|e| BpfError::calling("BPF_MAP_CREATE", e))?;

    let btf = kernel_types(roots, &object)?;
    let function = format!("bpf_iter_{}", parts.iterator);
    let iterator = btf.id_by_type_name_kind(&function, BtfKind::Func).map_err(|_| BpfError::Unsupported {
        what: format!("this kernel has no iterator over open files ({function})"),
    })?;
    object.relocate_btf(&btf).map_err(|e| BpfError::Unsupported {
        what: format!("this kernel's structures lack a field that is read: {}", with_sources(&e)),
    })?;
    drop(btf);

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

/// The types of the running kernel. The object's byte order is the machine's.
fn kernel_types(roots: &Roots, object: &Object) -> Result<Btf, BpfError> {
    let path = roots.sys("kernel/btf/vmlinux");
    Btf::parse_file(&path, object.endianness).map_err(|e| match e {
        BtfError::FileError { error, .. } if error.kind() == io::ErrorKind::NotFound => BpfError::NoBtf { path },
        BtfError::FileError { error, .. } => BpfError::Io { call: path.display().to_string(), source: error },
        other => BpfError::Unsupported { what: format!("{}: {}", path.display(), with_sources(&other)) },
    })
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
