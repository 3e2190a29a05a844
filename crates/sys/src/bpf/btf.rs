//! The kernel's type information (BTF, Documentation/bpf/btf.rst), as far as a program needs it.
//!
//! It is five megabytes and more. Reading all of it, as `aya-obj` does, takes 35 ms and 18 MiB at once, more than the rest of a
//! monitor; what is wanted is the number of one function and the places of some members. So it is streamed, and the answers are put
//! into the object's own type information, which then stands for the kernel's when the object is relocated.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};

const MAGIC: u16 = 0xEB9F;
pub(super) const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
pub(super) const KIND_FUNC: u32 = 12;

/// Anonymous structures in one another, at most: each level is one more reading.
const LEVELS: usize = 8;

/// Why a program does not fit the kernel.
#[derive(Debug)]
pub(super) enum Misfit {
    /// The kernel's types could not be read.
    Io(io::Error),
    /// There is no such function.
    Function(String),
    /// There is no such member: `struct.member`.
    Member(String),
    /// This is not type information of this machine's kind.
    Malformed(&'static str),
}

impl From<io::Error> for Misfit {
    fn from(error: io::Error) -> Self {
        Misfit::Io(error)
    }
}

/// Moves every member of the named structures in `own`, the type information of an object, to where the kernel has it, and returns
/// the numbers of `functions` in `kernel`. The sizes of members stay those of `own`.
pub(super) fn fit(own: &mut [u8], kernel: impl Read + Seek, functions: &[String]) -> Result<Vec<u32>, Misfit> {
    let structures = structures(own)?;
    let numbered: Vec<(u32, &str)> = functions.iter().map(|name| (KIND_FUNC, name.as_str())).collect();
    let found = search(&mut [Types::open(kernel)?], &structures, &numbered)?;
    let numbers = functions.iter().zip(&found.numbers);
    let numbers = numbers.map(|(name, number)| number.ok_or_else(|| Misfit::Function(name.clone())));
    let numbers = numbers.collect::<Result<_, _>>()?;
    for (structure, places) in structures.iter().zip(&found.places) {
        for (i, member) in structure.members.iter().enumerate() {
            let place = places.get(i).copied().flatten();
            let place = place.ok_or_else(|| Misfit::Member(structure.path(member)))?;
            if let Some(word) = own.get_mut(member.at..).and_then(|rest| rest.first_chunk_mut()) {
                *word = place.to_ne_bytes();
            }
        }
    }
    Ok(numbers)
}

/// A place or a number for each that was asked for, where there is one.
type Answers = Vec<Option<u32>>;

/// Where members lie in their structures, in bytes: one answer for each of `wanted` (structure, member), none for what no structure of
/// that name has. `kernel` is the kernel's own type information, and behind it that of one module, if there is one: its numbers of types
/// and places of texts go on where the kernel's end (Documentation/bpf/btf.rst, split BTF). Behind them the numbers of `numbered`, types of
/// this kind and name.
pub(super) fn places<R: Read + Seek>(
    kernel: Vec<R>,
    wanted: &[(&str, &str)],
    numbered: &[(u32, &str)],
) -> Result<(Answers, Answers), Misfit> {
    let mut structures: Vec<Structure> = Vec::new();
    for (at, (name, member)) in wanted.iter().enumerate() {
        let member = Member { name: member.as_bytes().to_vec(), at };
        match structures.iter_mut().find(|s| s.name == name.as_bytes()) {
            Some(structure) => structure.members.push(member),
            None => structures.push(Structure { name: name.as_bytes().to_vec(), members: vec![member] }),
        }
    }
    let mut parts = kernel.into_iter().map(Types::open).collect::<Result<Vec<_>, _>>()?;
    let found = search(&mut parts, &structures, numbered)?;
    let mut answers = vec![None; wanted.len()];
    for (structure, places) in structures.iter().zip(&found.places) {
        for (member, place) in structure.members.iter().zip(places) {
            // In bits; what does not begin with a byte is a bit field.
            if let (Some(answer), Some(place)) = (answers.get_mut(member.at), place.filter(|bits| bits % 8 == 0)) {
                *answer = Some(place / 8);
            }
        }
    }
    Ok((answers, found.numbers))
}

/// What [`search`] found.
struct Found {
    /// For each structure, where its members are, in bits.
    places: Vec<Vec<Option<u32>>>,
    /// The number of each type that was asked for.
    numbers: Answers,
}

/// Looks for structures' members and for types, by kind and name, in type information that consists of one or more parts.
fn search<R: Read + Seek>(
    parts: &mut [Types<R>],
    structures: &[Structure],
    numbered: &[(u32, &str)],
) -> Result<Found, Misfit> {
    let names = structures.iter().flat_map(|s| s.members.iter().map(|m| &m.name).chain([&s.name]));
    let mut names: Vec<&[u8]> =
        names.map(Vec::as_slice).chain(numbered.iter().map(|(_, name)| name.as_bytes())).collect();
    names.sort_unstable();
    names.dedup();
    let (mut strings, mut base) = (Vec::new(), 0);
    for part in parts.iter_mut() {
        base = part.find_strings(base, &names, &mut strings)?;
    }
    let is = |offset: u32, name: &[u8]| strings.iter().any(|(at, found)| *at == offset && *found == name);
    let is_wanted = |offset: u32| strings.binary_search_by_key(&offset, |(at, _)| *at).is_ok();

    let mut numbers = vec![None; numbered.len()];
    let mut candidates = Vec::new();
    each(parts, |id, ty, members| {
        if !is_wanted(ty.name) {
            return;
        }
        for (number, (kind, name)) in numbers.iter_mut().zip(numbered) {
            if ty.kind() == *kind && is(ty.name, name.as_bytes()) {
                *number = number.or(Some(id));
            }
        }
        if ty.kind() == KIND_STRUCT {
            for (index, structure) in structures.iter().enumerate().filter(|(_, s)| is(ty.name, &s.name)) {
                let mut candidate = Candidate { index, places: vec![None; structure.members.len()], inner: Vec::new() };
                candidate.take(structure, ty, members, 0, &is);
                candidates.push(candidate);
            }
        }
    })?;
    for _ in 0..LEVELS {
        if candidates.iter().all(|c| c.is_complete() || c.inner.is_empty()) {
            break;
        }
        let inner: Vec<Vec<(u32, u32)>> = candidates.iter_mut().map(|c| std::mem::take(&mut c.inner)).collect();
        each(parts, |id, ty, members| {
            for (candidate, inner) in candidates.iter_mut().zip(&inner) {
                for (_, base) in inner.iter().filter(|(wanted, _)| *wanted == id) {
                    if let Some(structure) = structures.get(candidate.index) {
                        candidate.take(structure, ty, members, *base, &is);
                    }
                }
            }
        })?;
    }

    let places = structures.iter().enumerate().map(|(index, structure)| {
        // A name may be used twice, by files of the kernel that know nothing of each other: the one that has it all.
        let best = candidates.iter().filter(|c| c.index == index).max_by_key(|c| c.places.iter().flatten().count());
        best.map_or_else(|| vec![None; structure.members.len()], |c| c.places.clone())
    });
    Ok(Found { places: places.collect(), numbers })
}

/// A structure that is looked for.
struct Structure {
    name: Vec<u8>,
    members: Vec<Member>,
}

struct Member {
    name: Vec<u8>,
    /// Where its place is to be written: in the object's type information, or among the answers.
    at: usize,
}

impl Structure {
    fn path(&self, member: &Member) -> String {
        format!("{}.{}", String::from_utf8_lossy(&self.name), String::from_utf8_lossy(&member.name))
    }
}

/// A structure of the kernel with the name of one that is looked for.
struct Candidate {
    /// Which of those.
    index: usize,
    /// Where its members are, in bits.
    places: Vec<Option<u32>>,
    /// Anonymous structures and unions in it that were not looked into yet: number and place.
    inner: Vec<(u32, u32)>,
}

impl Candidate {
    fn is_complete(&self) -> bool {
        self.places.iter().all(Option::is_some)
    }

    fn take(&mut self, of: &Structure, ty: Type, members: &[u8], base: u32, is: &impl Fn(u32, &[u8]) -> bool) {
        if !matches!(ty.kind(), KIND_STRUCT | KIND_UNION) {
            return;
        }
        for member in members.chunks_exact(12) {
            let [Some(name), Some(id), Some(place)] = [word(member, 0), word(member, 4), word(member, 8)] else {
                return;
            };
            // With bit fields in the structure, the upper 8 bits are a field's width.
            let (place, width) = if ty.has_bit_fields() { (place & 0xff_ffff, place >> 24) } else { (place, 0) };
            let place = base.saturating_add(place);
            if name == 0 {
                self.inner.push((id, place));
            }
            for (found, wanted) in self.places.iter_mut().zip(&of.members) {
                if width == 0 && found.is_none() && is(name, &wanted.name) {
                    *found = Some(place);
                }
            }
        }
    }
}

/// The named structures of an object and their members.
fn structures(own: &[u8]) -> Result<Vec<Structure>, Misfit> {
    let types = Types::open(io::Cursor::new(own))?;
    let strings = usize::try_from(types.strings.start).unwrap_or(usize::MAX);
    let text = |offset: u32| {
        let text = own.get(strings.saturating_add(offset as usize)..).unwrap_or_default();
        text.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
    };
    let mut found = Vec::new();
    let mut at = usize::try_from(types.types.start).unwrap_or(usize::MAX);
    each(&mut [types], |_, ty, rest| {
        at = at.saturating_add(12);
        if ty.kind() == KIND_STRUCT && ty.name != 0 {
            let members = rest.chunks_exact(12).enumerate().filter_map(|(i, member)| {
                Some(Member { name: text(word(member, 0)?), at: at.saturating_add(i * 12 + 8) })
            });
            found.push(Structure { name: text(ty.name), members: members.collect() });
        }
        at = at.saturating_add(rest.len());
    })?;
    Ok(found)
}

/// A type's first twelve bytes: `struct btf_type`, include/uapi/linux/btf.h.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    info: u32,
}

impl Type {
    fn kind(self) -> u32 {
        self.info >> 24 & 0x1f
    }

    fn has_bit_fields(self) -> bool {
        self.info >> 31 == 1
    }

    /// Length of what follows.
    fn rest(self) -> Option<usize> {
        let count = (self.info & 0xffff) as usize;
        Some(match self.kind() {
            // Pointer, forward declaration, typedef, volatile, const, restrict, function, float, type tag.
            2 | 7..=12 | 16 | 18 => 0,
            // Integer, variable, declaration tag.
            1 | 14 | 17 => 4,
            // Array.
            3 => 12,
            // Enum, function prototype.
            6 | 13 => count * 8,
            // Structure, union, data section, enum of 64 bits.
            KIND_STRUCT | KIND_UNION | 15 | 19 => count * 12,
            _ => return None,
        })
    }
}

/// Type information, read from its start to its end.
struct Types<R> {
    file: BufReader<R>,
    types: std::ops::Range<u64>,
    strings: std::ops::Range<u64>,
}

impl<R: Read + Seek> Types<R> {
    fn open(file: R) -> Result<Self, Misfit> {
        let mut file = BufReader::with_capacity(16 << 10, file);
        // `struct btf_header`.
        let mut header = [0; 24];
        file.read_exact(&mut header)?;
        let magic = header.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes));
        if magic != Some(MAGIC) {
            return Err(Misfit::Malformed("it does not begin as it should"));
        }
        let field = |at| u64::from(word(&header, at).unwrap_or(0));
        let part = |offset: u64, length: u64| field(4) + offset..field(4) + offset + length;
        Ok(Types { file, types: part(field(8), field(12)), strings: part(field(16), field(20)) })
    }

    /// Calls `look` with each type: its number, its first bytes and the rest. The numbers begin behind `id`; the last one is returned.
    fn each(&mut self, mut id: u32, look: &mut impl FnMut(u32, Type, &[u8])) -> Result<u32, Misfit> {
        let mut at = self.types.start;
        self.file.seek(SeekFrom::Start(at))?;
        let mut rest = Vec::new();
        while at < self.types.end {
            let mut head = [0; 12];
            self.file.read_exact(&mut head)?;
            let (Some(name), Some(info)) = (word(&head, 0), word(&head, 4)) else { return Ok(id) };
            let ty = Type { name, info };
            let length = ty.rest().ok_or(Misfit::Malformed("a kind of type that is not known"))?;
            rest.resize(length, 0);
            self.file.read_exact(&mut rest)?;
            id = id.saturating_add(1);
            look(id, ty, &rest);
            at = at.saturating_add(12 + length as u64);
        }
        Ok(id)
    }

    /// Where each of the names stands among the strings: place and name, by place. Places are counted from `base`, that of the first
    /// string; returned is the one behind the last.
    fn find_strings<'n>(
        &mut self,
        base: u64,
        names: &[&'n [u8]],
        found: &mut Vec<(u32, &'n [u8])>,
    ) -> Result<u64, Misfit> {
        self.file.seek(SeekFrom::Start(self.strings.start))?;
        let length = self.strings.end.saturating_sub(self.strings.start);
        let (mut at, mut text) = (0_u64, Vec::new());
        while at < length {
            text.clear();
            // A string never ends with the file: the kernel's tables end with a zero.
            let n = (&mut self.file).take(length - at).read_until(0, &mut text)? as u64;
            if text.pop() != Some(0) {
                return Err(Misfit::Io(ErrorKind::UnexpectedEof.into()));
            }
            if let Some(name) = names.iter().find(|name| **name == text.as_slice()) {
                found.push((u32::try_from(base.saturating_add(at)).unwrap_or(u32::MAX), *name));
            }
            at += n;
        }
        Ok(base.saturating_add(length))
    }
}

/// Calls `look` with each type of all parts, which are numbered through. The number 0 is void, and not written.
fn each<R: Read + Seek>(parts: &mut [Types<R>], mut look: impl FnMut(u32, Type, &[u8])) -> Result<(), Misfit> {
    let mut id = 0;
    for part in parts {
        id = part.each(id, &mut look)?;
    }
    Ok(())
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests;
