use super::*;
use aya_obj::Object;
use aya_obj::btf::{Btf, BtfKind};
use std::io::Cursor;

/// Type information put together by hand.
#[derive(Default)]
struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Builder {
    fn name(&mut self, name: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend(name.bytes().chain([0]));
        at
    }

    fn words(&mut self, words: &[u32]) {
        self.types.extend(words.iter().flat_map(|w| w.to_ne_bytes()));
    }

    /// A type of any kind without what follows its head.
    fn head(mut self, name: &str, kind: u32) -> Self {
        let name = self.name(name);
        self.words(&[name, kind << 24, 0]);
        self
    }

    /// A structure or union: name, type and place of each member.
    fn members(mut self, kind: u32, name: &str, bit_fields: bool, members: &[(&str, u32, u32)]) -> Self {
        let name = self.name(name);
        self.words(&[name, u32::from(bit_fields) << 31 | kind << 24 | members.len() as u32, 64]);
        for (name, ty, place) in members {
            let name = self.name(name);
            self.words(&[name, *ty, *place]);
        }
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let head = [u32::from(MAGIC) | 1 << 16, 24, 0, types, types, strings];
        head.iter().flat_map(|w| w.to_ne_bytes()).chain(self.types.iter().chain(&self.strings).copied()).collect()
    }
}

fn own() -> Vec<u8> {
    Builder::default().members(KIND_STRUCT, "s", false, &[("a", 0, 0), ("b", 0, 32)]).bytes()
}

/// Where the members of the object's structure are after fitting.
fn own_places(own: &[u8]) -> Vec<u32> {
    (0..2).filter_map(|i| word(own, 24 + 12 + i * 12 + 8)).collect()
}

#[test]
fn members_move_to_where_the_kernel_has_them() {
    let kernel = Builder::default()
        .head("s", 7)
        .head("f", 8)
        .members(KIND_STRUCT, "s", false, &[("x", 0, 0), ("b", 0, 64), ("", 4, 0), ("a", 0, 128)])
        .head("f", KIND_FUNC);
    let mut own = own();
    assert_eq!(fit(&mut own, Cursor::new(kernel.bytes()), &["f".into()]).unwrap(), [4]);
    assert_eq!(own_places(&own), [128, 64]);
}

#[test]
fn members_of_anonymous_structures_and_beside_bit_fields() {
    // `struct s { int flag : 1; union { struct { b; }; c; }; a; }`
    let kernel = Builder::default()
        .members(KIND_STRUCT, "", false, &[("b", 0, 32)])
        .members(KIND_UNION, "", false, &[("", 1, 0), ("c", 0, 0)])
        .members(KIND_STRUCT, "s", true, &[("flag", 0, 1 << 24 | 5), ("", 2, 64), ("a", 0, 256)])
        .head("f", KIND_FUNC);
    let mut own = own();
    assert_eq!(fit(&mut own, Cursor::new(kernel.bytes()), &["f".into()]).unwrap(), [4]);
    assert_eq!(own_places(&own), [256, 96]);
}

#[test]
fn of_two_structures_of_a_name_the_one_that_has_all() {
    let kernel = Builder::default()
        .members(KIND_STRUCT, "s", false, &[("a", 0, 8)])
        .members(KIND_STRUCT, "s", false, &[("a", 0, 16), ("b", 0, 24)])
        .head("f", KIND_FUNC);
    let mut own = own();
    fit(&mut own, Cursor::new(kernel.bytes()), &["f".into()]).unwrap();
    assert_eq!(own_places(&own), [16, 24]);
}

/// A module's type information: names that begin with `=` are not written into it, but are places in the kernel's texts.
fn split(kernel: &Builder, module: Builder) -> Vec<u8> {
    let base = kernel.strings.len() as u32;
    let mut types = module.types.clone();
    // Places of texts are moved behind the kernel's; each type here is a structure.
    let mut at = 0;
    while at < types.len() {
        let members = (word(&types, at + 4).unwrap() & 0xffff) as usize;
        let names = std::iter::once(at).chain((0..members).map(|i| at + 12 + i * 12));
        for place in names.collect::<Vec<_>>() {
            let name = word(&types, place).unwrap();
            let text = module.strings[name as usize..].split(|b| *b == 0).next().unwrap();
            let moved = match text.strip_prefix(b"=") {
                Some(shared) => {
                    let mut needle = shared.to_vec();
                    needle.push(0);
                    kernel.strings.windows(needle.len()).position(|w| w == needle).unwrap() as u32
                }
                None if name == 0 => 0,
                None => base + name,
            };
            types[place..place + 4].copy_from_slice(&moved.to_ne_bytes());
        }
        at += 12 + members * 12;
    }
    Builder { types, strings: module.strings }.bytes()
}

#[test]
fn members_of_a_module_are_found_beside_the_kernels() {
    // The kernel's types are 1 to 3; the module's begin with 4.
    let kernel = Builder::default()
        .members(KIND_STRUCT, "device", false, &[("kobj", 0, 64), ("parent", 0, 640)])
        .members(KIND_STRUCT, "", false, &[("seqno", 0, 64)])
        .head("later", 8);
    let module = Builder::default().members(KIND_STRUCT, "", false, &[("=kobj", 0, 8)]).members(
        KIND_STRUCT,
        "job",
        false,
        &[("fence", 0, 128), ("=parent", 0, 192), ("", 4, 256), ("", 2, 512)],
    );
    let module = split(&kernel, module);
    let wanted = [
        ("job", "fence"),
        ("device", "kobj"),
        ("job", "parent"),
        ("job", "kobj"),
        ("job", "seqno"),
        ("job", "later"),
        ("no", "kobj"),
    ];
    let parts = || vec![Cursor::new(kernel.bytes()), Cursor::new(module.clone())];
    let numbered = [(8, "later"), (KIND_STRUCT, "device"), (KIND_FUNC, "device"), (KIND_STRUCT, "job")];
    let (found, numbers) = places(parts(), &wanted, &numbered).unwrap();
    assert_eq!(numbers, [Some(3), Some(1), None, Some(5)]);
    assert_eq!(found, [Some(16), Some(8), Some(24), Some(33), Some(72), None, None]);
    // Without the module, only what is built in.
    let (found, _) = places(vec![Cursor::new(kernel.bytes())], &wanted, &[]).unwrap();
    assert_eq!(found, [None, Some(8), None, None, None, None, None]);
    for length in 0..module.len() {
        let cut = vec![Cursor::new(kernel.bytes()), Cursor::new(module[..length].to_vec())];
        assert!(places(cut, &wanted, &[]).is_err(), "synthetic: {length} bytes");
    }
}

#[test]
fn what_the_kernel_lacks_is_named() {
    let kernel = Builder::default().members(KIND_STRUCT, "s", true, &[("a", 0, 8), ("b", 0, 3 << 24 | 24)]);
    assert!(
        matches!(fit(&mut own(), Cursor::new(kernel.bytes()), &["f".into()]), Err(Misfit::Function(f)) if f == "f")
    );
    let kernel = kernel.head("f", KIND_FUNC);
    match fit(&mut own(), Cursor::new(kernel.bytes()), &["f".into()]) {
        Err(Misfit::Member(member)) => assert_eq!(member, "s.b", "a bit field cannot be read"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn synthetic_damage_is_an_error() {
    let kernel = Builder::default().members(KIND_STRUCT, "s", false, &[("a", 0, 8), ("b", 0, 24)]).head("f", KIND_FUNC);
    let whole = kernel.bytes();
    fit(&mut own(), Cursor::new(&whole), &["f".into()]).unwrap();
    for length in 0..whole.len() {
        assert!(fit(&mut own(), Cursor::new(&whole[..length]), &["f".into()]).is_err(), "{length} bytes");
    }
    for length in 0..own().len() {
        // Whatever it answers, it answers.
        let _ = fit(&mut own()[..length].to_vec(), Cursor::new(&whole), &["f".into()]);
    }
    let mut foreign = whole.clone();
    foreign.swap(0, 1);
    assert!(matches!(fit(&mut own(), Cursor::new(foreign), &["f".into()]), Err(Misfit::Malformed(_))));
    let unknown = kernel.head("new", 31).bytes();
    assert!(matches!(fit(&mut own(), Cursor::new(unknown), &["f".into()]), Err(Misfit::Malformed(_))));
}

#[test]
fn the_running_kernel_read_as_aya_reads_it() {
    let Ok(kernel) = std::fs::File::open("/sys/kernel/btf/vmlinux") else {
        eprintln!("SKIPPED: this kernel has no type information");
        return;
    };
    let mut object = Object::parse(&super::super::open_files::OBJECT.0).unwrap();
    let mut by_aya = object.clone();
    let all = Btf::from_sys_fs().unwrap();
    by_aya.relocate_btf(&all).unwrap();

    let mut own = object.btf.as_ref().unwrap().to_bytes();
    let iterators = ["bpf_iter_task_file".to_string(), "bpf_iter_task".to_string()];
    let numbers = fit(&mut own, kernel, &iterators).unwrap();
    object.relocate_btf(&Btf::parse(&own, object.endianness).unwrap()).unwrap();
    assert_eq!(numbers, iterators.map(|name| all.id_by_type_name_kind(&name, BtfKind::Func).unwrap()));
    let words =
        |o: &Object| o.functions.values().flat_map(|f| &f.instructions).map(|i| (i.off, i.imm)).collect::<Vec<_>>();
    assert_eq!(words(&object), words(&by_aya));
}
