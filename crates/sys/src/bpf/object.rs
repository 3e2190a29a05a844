//! A compiled program, fitted to the running kernel and loaded.

use super::btf::{self, Misfit};
use super::call::{self, Counted, Functions, Name, Purpose};
use super::cast::{self, Cast};
use super::error::BpfError;
use super::map::Map;
use crate::Roots;
use aya_obj::btf::{Btf, BtfFeatures};
use aya_obj::{Function, Object};
use std::collections::{BTreeMap, HashSet};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// Compiled programs, where the ELF reader may look at their words in place.
#[repr(C, align(8))]
pub(super) struct Aligned<T: ?Sized>(pub(super) T);

/// What the verifier may say of a program that it refuses.
const LOG_BYTES: usize = 64 << 10;

/// The iterators of an object, fitted to the kernel and ready to be loaded.
pub(super) struct Iterators {
    object: Object,
    maps: BTreeMap<String, Map>,
    /// The object's own type information.
    types: Vec<u8>,
    /// Kernel's iterators, by name, and the numbers of their functions in its type information.
    numbers: Vec<(&'static str, u32)>,
    name: Name,
}

impl Iterators {
    /// Makes the maps of an object and fits its programs to the kernel. `iterators` are the kernel's, as `task_file`; `name` is what
    /// the kernel is to call programs and maps, for those who list the programs of a machine.
    pub(super) fn new(roots: &Roots, object: &[u8], iterators: &[&'static str], name: Name) -> Result<Self, BpfError> {
        let mut object = Object::parse(object).map_err(broken)?;
        // First what costs little: a process without rights learns it here on most machines.
        let mut maps = BTreeMap::new();
        for (of, definition) in &object.maps {
            maps.insert(of.clone(), create(definition, name)?);
        }
        let (kernel, numbers) = kernel_types(roots, &object, iterators)?;
        object.relocate_btf(&kernel).map_err(|e| broken(with_sources(&e)))?;

        let definitions = std::mem::take(&mut object.maps);
        let code: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let fds = maps.iter().filter_map(|(of, map)| Some((of.as_str(), map.fd().as_raw_fd(), definitions.get(of)?)));
        object.relocate_maps(fds, &code).map_err(broken)?;
        object.relocate_calls(&code).map_err(broken)?;
        let types = own_types(&mut object)?;
        Ok(Iterators { object, maps, types, numbers: iterators.iter().copied().zip(numbers).collect(), name })
    }

    /// Loads and attaches a program as one of the kernel's iterators. The link keeps it and its maps.
    pub(super) fn link(&self, program: &str, iterator: &str) -> Result<OwnedFd, BpfError> {
        let number = self.numbers.iter().find(|(of, _)| *of == iterator).ok_or_else(|| broken(iterator))?.1;
        let numbers = &code_of(&self.object, program)?.func_info.func_info;
        // The kernel asks for types where a program gives functions of its own to a helper (`check_ld_imm`, kernel/bpf/verifier.c).
        let types = if numbers.len() > 1 { Some(call::load_types(&self.types)) } else { None };
        let types = types.transpose().map_err(|e| BpfError::calling("BPF_BTF_LOAD", e))?;
        let own = types.as_ref().map(|types| Functions { types: types.as_fd(), numbers });
        let program = load_program(&self.object, program, Purpose::Iterator(number, own), self.name)?;
        call::link_iterator(program.as_fd()).map_err(|e| BpfError::calling("BPF_LINK_CREATE", e))
    }

    /// One of the maps, when all programs are linked.
    pub(super) fn into_map(mut self, name: &str) -> Result<Map, BpfError> {
        self.maps.remove(name).ok_or_else(|| broken(name))
    }
}

/// An object's own type information, with what the compiler leaves open: lengths of sections and places in them.
fn own_types(object: &mut Object) -> Result<Vec<u8>, BpfError> {
    // Nothing is to be rewritten for kernels that lack a kind of type: what is used of it is older than the helpers that ask for it.
    let all = BtfFeatures::new(true, true, true, true, true, true, true, true);
    let types = object.fixup_and_sanitize_btf(&all).map_err(|e| broken(with_sources(&e)))?;
    Ok(types.ok_or_else(|| broken("no type information"))?.to_bytes())
}

/// The instructions of a program.
fn code_of<'a>(object: &'a Object, program: &str) -> Result<&'a Function, BpfError> {
    let program_of = object.programs.get(program).ok_or_else(|| broken(program))?;
    object.functions.get(&program_of.function_key()).ok_or_else(|| broken(program))
}

/// Loads one program of an object whose maps are in place.
fn load_program(object: &Object, program: &str, purpose: Purpose<'_>, name: Name) -> Result<OwnedFd, BpfError> {
    let program_of = object.programs.get(program).ok_or_else(|| broken(program))?;
    let code = code_of(object, program)?;
    let load = |log: &mut [u8]| call::load_program(&code.instructions, &program_of.license, purpose, name, log);
    load(&mut []).map_err(|e| refused(e, load))
}

/// Programs for tracepoints, and their maps.
#[derive(Debug)]
pub(super) struct Tracepoints {
    object: Object,
    cast: Option<Cast>,
    maps: Arc<BTreeMap<String, Map>>,
    name: Name,
}

impl Tracepoints {
    /// Makes the maps of an object, constants excepted, some of them of other sizes (`max_entries`) than the object says. These constants are
    /// those of all of its programs.
    pub(super) fn new(
        object: &[u8],
        sizes: &[(&str, u32)],
        constants: &[(&str, u32)],
        name: Name,
    ) -> Result<Self, BpfError> {
        let mut object = Object::parse(object).map_err(broken)?;
        let constants: Vec<(&str, [u8; 4])> = constants.iter().map(|(of, value)| (*of, value.to_ne_bytes())).collect();
        let bytes = constants.iter().map(|(of, bytes)| (*of, (bytes.as_slice(), true))).collect();
        object.patch_map_data(bytes).map_err(broken)?;
        let mut maps = BTreeMap::new();
        for (of, definition) in object.maps.iter_mut().filter(|(_, map)| map.data().is_empty()) {
            if let Some((_, entries)) = sizes.iter().find(|(name, _)| name == of) {
                definition.set_max_entries(*entries);
            }
            maps.insert(of.clone(), create(definition, name)?);
        }
        Ok(Tracepoints { object, cast: None, maps: Arc::new(maps), name })
    }

    /// Lets them read memory by loads from here on, if the kernel takes it.
    pub(super) fn read_by(&mut self, cast: Option<Cast>) -> Result<(), BpfError> {
        self.cast = match cast {
            Some(cast) if is_taken(&self.object, cast, self.name)? => Some(cast),
            _ => None,
        };
        Ok(())
    }

    /// Whether they do.
    pub(super) fn reads_by_loads(&self) -> bool {
        self.cast.is_some()
    }

    /// One of the maps.
    pub(super) fn map(&self, name: &str) -> Result<&Map, BpfError> {
        self.maps.get(name).ok_or_else(|| broken(name))
    }

    /// The programs with these constants, name and bytes of each: the verifier knows their values. Others may have others, over the
    /// same maps.
    pub(super) fn with_constants(&self, constants: &[(&str, Vec<u8>)]) -> Result<Programs, BpfError> {
        let mut object = self.object.clone();
        cast::put(&mut object, self.cast);
        let is_cast = u32::from(self.cast.is_some()).to_ne_bytes();
        let constants =
            constants.iter().map(|(of, bytes)| (*of, bytes.as_slice())).chain([(cast::CONSTANT, &is_cast[..])]);
        object.patch_map_data(constants.map(|(of, bytes)| (of, (bytes, true))).collect()).map_err(broken)?;
        let mut own = BTreeMap::new();
        for (of, definition) in object.maps.iter().filter(|(_, map)| !map.data().is_empty()) {
            let map = create(definition, self.name)?;
            let only = 0_u32.to_ne_bytes();
            map.insert(&only, definition.data()).map_err(|e| BpfError::calling("BPF_MAP_UPDATE_ELEM", e))?;
            map.freeze().map_err(|e| BpfError::calling("BPF_MAP_FREEZE", e))?;
            own.insert(of.clone(), map);
        }
        let definitions = std::mem::take(&mut object.maps);
        let maps = self.maps.iter().chain(&own);
        let fds = maps.filter_map(|(of, map)| Some((of.as_str(), map.fd().as_raw_fd(), definitions.get(of)?)));
        object.relocate_maps(fds, &HashSet::new()).map_err(broken)?;
        Ok(Programs { object, name: self.name, _maps: self.maps.clone(), _own: own })
    }
}

/// Whether the kernel loads a program with this. Without a compiler of its own for programs it calls none of its functions
/// (`add_kfunc_call`, kernel/bpf/verifier.c), for which it has two answers.
fn is_taken(object: &Object, cast: Cast, name: Name) -> Result<bool, BpfError> {
    let mut object = object.clone();
    cast::put(&mut object, Some(cast));
    match load_program(&object, cast::TRIAL, Purpose::RawTracepoint, name) {
        Ok(_) => Ok(true),
        Err(BpfError::Rejected { .. }) => Ok(false),
        Err(BpfError::Io { source, .. })
            if matches!(source.raw_os_error(), Some(libc::EINVAL | libc::EACCES | libc::EOPNOTSUPP | ENOTSUPP)) =>
        {
            Ok(false)
        }
        Err(other) => Err(other),
    }
}

/// Of the kernel alone (include/linux/errno.h).
const ENOTSUPP: i32 = 524;

/// Programs that are ready to be loaded.
pub(super) struct Programs {
    object: Object,
    name: Name,
    /// A program keeps its maps once it is loaded; until then, it names them by their descriptors.
    _maps: Arc<BTreeMap<String, Map>>,
    _own: BTreeMap<String, Map>,
}

impl Programs {
    /// Loads a program that is run from here.
    pub(super) fn load(&self, program: &'static str) -> Result<Loaded, BpfError> {
        load_program(&self.object, program, Purpose::RawTracepoint, self.name).map(Loaded)
    }

    /// Loads a program and attaches it to the first of these tracepoints that the kernel has; none where it has none of them.
    pub(super) fn attach(&self, program: &'static str, tracepoints: &[&str]) -> Result<Option<Attached>, BpfError> {
        let loaded = load_program(&self.object, program, Purpose::RawTracepoint, self.name)?;
        for tracepoint in tracepoints {
            let name = CString::new(*tracepoint).map_err(broken)?;
            match call::open_raw_tracepoint(loaded.as_fd(), &name) {
                Ok(link) => return Ok(Some(Attached { name: program, program: loaded, _link: link })),
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
                Err(e) => return Err(BpfError::calling("BPF_RAW_TRACEPOINT_OPEN", e)),
            }
        }
        Ok(None)
    }
}

/// A program that is on no tracepoint.
#[derive(Debug)]
pub(super) struct Loaded(OwnedFd);

impl Loaded {
    /// Runs it with these arguments. What it returned.
    pub(super) fn run(&self, arguments: &[u64]) -> Result<u32, BpfError> {
        call::run_program(self.0.as_fd(), arguments).map_err(|e| BpfError::calling("BPF_PROG_RUN", e))
    }
}

/// A program on its tracepoint, as long as this lives.
#[derive(Debug)]
pub(super) struct Attached {
    name: &'static str,
    program: OwnedFd,
    _link: OwnedFd,
}

impl Attached {
    /// The program's name in its object.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Runs it with these arguments, here and now, as its tracepoint does. What it returned.
    pub(super) fn run(&self, arguments: &[u64]) -> Result<u32, BpfError> {
        call::run_program(self.program.as_fd(), arguments).map_err(|e| BpfError::calling("BPF_PROG_RUN", e))
    }

    /// What the kernel has counted of it.
    pub(super) fn counted(&self) -> Result<Counted, BpfError> {
        call::counted(self.program.as_fd()).map_err(|e| BpfError::calling("BPF_OBJ_GET_INFO_BY_FD", e))
    }
}

/// As long as this lives, the kernel measures the time that programs take.
#[derive(Debug)]
pub(super) struct Measuring {
    _fd: OwnedFd,
}

impl Measuring {
    pub(super) fn begin() -> Result<Measuring, BpfError> {
        let fd = call::enable_stats().map_err(|e| BpfError::calling("BPF_ENABLE_STATS", e))?;
        Ok(Measuring { _fd: fd })
    }
}

fn create(definition: &aya_obj::Map, name: Name) -> Result<Map, BpfError> {
    Map::create(definition, name).map_err(|e| BpfError::calling("BPF_MAP_CREATE", e))
}

/// Where members of the kernel's structures lie, in bytes, by structure and member: in what is built in and in one module, if its file is
/// there. What is built in may be any of them. And how programs may read memory by loads.
pub(super) fn member_places(
    roots: &Roots,
    module: &str,
    wanted: &[(&str, &str)],
) -> Result<(Vec<Option<u32>>, Option<Cast>), BpfError> {
    let path = roots.sys("kernel/btf/vmlinux");
    let mut parts = vec![open_types(&path)?];
    let of_module = roots.sys(format!("kernel/btf/{module}"));
    match File::open(&of_module) {
        Ok(file) => parts.push(file),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(BpfError::Io { call: of_module.display().to_string(), source }),
    }
    let (places, numbers) = btf::places(parts, wanted, &cast::WANTED).map_err(|misfit| unfit(misfit, &path))?;
    Ok((places, Cast::new(&numbers)))
}

fn open_types(path: &Path) -> Result<File, BpfError> {
    match File::open(path) {
        Ok(file) => Ok(file),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(BpfError::NoBtf { path: path.into() }),
        Err(source) => Err(BpfError::Io { call: path.display().to_string(), source }),
    }
}

/// The object's types as the running kernel has them, and the numbers of the iterators' functions there.
fn kernel_types(roots: &Roots, object: &Object, iterators: &[&str]) -> Result<(Btf, Vec<u32>), BpfError> {
    let path = roots.sys("kernel/btf/vmlinux");
    let kernel = open_types(&path)?;
    let mut own = object.btf.as_ref().ok_or_else(|| broken("no type information"))?.to_bytes();
    let functions: Vec<String> = iterators.iter().map(|iterator| format!("bpf_iter_{iterator}")).collect();
    let numbers = btf::fit(&mut own, kernel, &functions).map_err(|misfit| unfit(misfit, &path))?;
    let types = Btf::parse(&own, object.endianness).map_err(|e| broken(with_sources(&e)))?;
    Ok((types, numbers))
}

/// Type information that does not answer.
fn unfit(misfit: Misfit, path: &Path) -> BpfError {
    match misfit {
        Misfit::Io(source) => BpfError::Io { call: path.display().to_string(), source },
        Misfit::Function(function) => BpfError::Unsupported { what: format!("this kernel has no {function}") },
        Misfit::Member(member) => {
            BpfError::Unsupported { what: format!("this kernel's structures lack a field that is read: {member}") }
        }
        Misfit::Malformed(what) => BpfError::Unsupported { what: format!("{}: {what}", path.display()) },
    }
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
    let mut lines: Vec<&str> = text.lines().rev().filter(|line| !line.starts_with("processed ")).take(12).collect();
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
