//! Maps: tables that programs and this process share.

use super::call::{Name, bpf, bpf_answering, number, own};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, OwnedFd};

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_MAP_FREEZE: libc::c_int = 22;
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;

const BPF_NOEXIST: u64 = 1;

/// The kinds of map that are made here, by `enum bpf_map_type`. None of them has a value for each processor: the kernel would read and
/// write more bytes than [`Map`] compares.
const BPF_MAP_TYPE_HASH: u32 = 1;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_LRU_HASH: u32 = 9;
const BPF_MAP_TYPE_RINGBUF: u32 = 27;

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: Name,
}
const _: () = assert!(size_of::<MapCreate>() == 44);

#[repr(C)]
struct MapElement {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}
const _: () = assert!(size_of::<MapElement>() == 32);

#[repr(C)]
struct MapFreeze {
    map_fd: u32,
}

#[repr(C)]
struct MapBatch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}
const _: () = assert!(size_of::<MapBatch>() == 56);

/// A map of keys and values of fixed sizes.
#[derive(Debug)]
pub(super) struct Map {
    fd: OwnedFd,
    key_size: usize,
    value_size: usize,
    max_entries: u32,
}

impl Map {
    /// Makes a map, without type information.
    pub(super) fn create(map: &aya_obj::Map, map_name: Name) -> io::Result<Map> {
        const KINDS: [u32; 4] = [BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_RINGBUF];
        if !KINDS.contains(&map.map_type()) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let attr = MapCreate {
            map_type: map.map_type(),
            key_size: map.key_size(),
            value_size: map.value_size(),
            max_entries: map.max_entries(),
            map_flags: map.map_flags(),
            inner_map_fd: 0,
            numa_node: 0,
            map_name,
        };
        // SAFETY: the part of this command, without pointers.
        let fd = unsafe { bpf(BPF_MAP_CREATE, &attr) }?;
        Ok(Map {
            fd: own(fd)?,
            key_size: map.key_size() as usize,
            value_size: map.value_size() as usize,
            max_entries: map.max_entries(),
        })
    }

    /// Its descriptor.
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// How many elements it has room for; of a ring, how many bytes.
    pub(super) fn max_entries(&self) -> u32 {
        self.max_entries
    }

    /// Puts an element in.
    pub(super) fn insert(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.put(key, value, 0)
    }

    /// Puts an element in, unless there is one of that key: it stays.
    pub(super) fn insert_new(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        match self.put(key, value, BPF_NOEXIST) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            answer => answer,
        }
    }

    fn put(&self, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
        self.fits(key, value.len())?;
        let attr = MapElement { flags, ..self.element(key, value.as_ptr() as u64)? };
        // SAFETY: the part of this command. Its pointers lead to a key and a value that live until after the call and that the kernel
        // reads only, as many bytes as the map was made for: their lengths were compared.
        unsafe { bpf(BPF_MAP_UPDATE_ELEM, &attr) }.map(drop)
    }

    /// Takes an element out.
    pub(super) fn remove(&self, key: &[u8]) -> io::Result<()> {
        self.fits(key, self.value_size)?;
        let attr = self.element(key, 0)?;
        // SAFETY: as above; this command has a key only.
        unsafe { bpf(BPF_MAP_DELETE_ELEM, &attr) }.map(drop)
    }

    /// The value of a key; none where there is no such key.
    pub(super) fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut value = vec![0; self.value_size];
        self.fits(key, value.len())?;
        let attr = self.element(key, value.as_mut_ptr() as u64)?;
        // SAFETY: the part of this command. Its pointers lead to a key, which the kernel reads, and to exclusively borrowed room for a value,
        // as long as the map was made for; no map has a value for each processor.
        match unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &attr) } {
            Ok(_) => Ok(Some(value)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Gives all elements of a hash or an array, key and value. Those that come and go meanwhile are given or not.
    pub(super) fn each(&self, mut each: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        if self.key_size == 0 || self.value_size == 0 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let room = self.max_entries as usize;
        let (mut keys, mut values) = (vec![0; room * self.key_size], vec![0; room * self.value_size]);
        let mut place = 0_u32;
        let mut is_first = true;
        loop {
            let at = std::ptr::from_mut(&mut place) as u64;
            let mut attr = MapBatch {
                in_batch: if is_first { 0 } else { at },
                out_batch: at,
                keys: keys.as_mut_ptr() as u64,
                values: values.as_mut_ptr() as u64,
                count: self.max_entries,
                map_fd: number(self.fd.as_fd())?,
                elem_flags: 0,
                flags: 0,
            };
            // SAFETY: the part of this command. Its pointers lead to exclusively borrowed room for as many keys and values as `count`
            // says, and to the word in which a hash keeps its place, an array its key of as many bytes; no map has a value for each processor.
            let answer = unsafe { bpf_answering(BPF_MAP_LOOKUP_BATCH, &mut attr) };
            // ENOENT: these were the last.
            let is_last = answer.as_ref().is_err_and(|e| e.raw_os_error() == Some(libc::ENOENT));
            if !is_last {
                answer?;
            }
            let pairs = keys.chunks_exact(self.key_size).zip(values.chunks_exact(self.value_size));
            pairs.take(attr.count as usize).for_each(|(key, value)| each(key, value));
            if is_last {
                return Ok(());
            }
            is_first = false;
        }
    }

    /// Lets nobody but programs write to it any more, and where they may not either, the verifier takes its values for constants.
    pub(super) fn freeze(&self) -> io::Result<()> {
        let attr = MapFreeze { map_fd: number(self.fd.as_fd())? };
        // SAFETY: the part of this command, without pointers.
        unsafe { bpf(BPF_MAP_FREEZE, &attr) }.map(drop)
    }

    fn fits(&self, key: &[u8], value_length: usize) -> io::Result<()> {
        if key.len() == self.key_size && value_length == self.value_size {
            Ok(())
        } else {
            Err(io::ErrorKind::InvalidInput.into())
        }
    }

    fn element(&self, key: &[u8], value: u64) -> io::Result<MapElement> {
        Ok(MapElement { map_fd: number(self.fd.as_fd())?, padding: 0, key: key.as_ptr() as u64, value, flags: 0 })
    }
}
