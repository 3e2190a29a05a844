//! Reads of the kernel's memory by loads, where the kernel lets programs take numbers for pointers: `reads.h`.

use super::btf::{KIND_FUNC, KIND_STRUCT};
use aya_obj::Object;
use aya_obj::generated::bpf_insn;

/// What is asked of the kernel's type information: its function, from Linux 6.2 on, and a structure that begins with a number of 64 bits
/// (include/linux/time64.h).
pub(super) const WANTED: [(u32, &str); 2] = [(KIND_FUNC, "bpf_rdonly_cast"), (KIND_STRUCT, "timespec64")];

/// A program that does nothing else.
pub(super) const TRIAL: &str = "try_cast";

/// The constant that says which way is taken.
pub(super) const CONSTANT: &str = "is_cast";

/// What stands for the two in the objects: `CAST_TYPE`, `CAST_CALL`.
const TYPE: i32 = 0x6770_7574;
const CALL: i32 = 0x6770_7563;

/// `BPF_ALU64 | BPF_MOV` of a number and of a register, `BPF_JMP | BPF_CALL` (include/uapi/linux/bpf.h).
const MOVE_NUMBER: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const CALL_FUNCTION: u8 = 0x85;
const BPF_PSEUDO_KFUNC_CALL: u8 = 2;

/// The numbers of [`WANTED`] in the running kernel's type information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cast {
    function: i32,
    structure: i32,
}

impl Cast {
    /// By what was found, in the order of [`WANTED`]: none where the kernel has no such function.
    pub(super) fn new(found: &[Option<u32>]) -> Option<Cast> {
        match *found {
            [Some(function), Some(structure)] => {
                Some(Cast { function: function.try_into().ok()?, structure: structure.try_into().ok()? })
            }
            _ => None,
        }
    }
}

/// Puts the numbers in, in all programs of an object. Without them a move stands for the call, which is never reached: the kernel refuses calls
/// that it does not know wherever they stand.
pub(super) fn put(object: &mut Object, cast: Option<Cast>) {
    for function in object.functions.values_mut() {
        put_into(&mut function.instructions, cast);
    }
}

fn put_into(mut code: &mut [bpf_insn], cast: Option<Cast>) {
    while let [number, rest @ ..] = code {
        match rest {
            [call, ..]
                if (number.code, number.imm, call.code, call.imm) == (MOVE_NUMBER, TYPE, CALL_FUNCTION, CALL) =>
            {
                if let Some(Cast { function, structure }) = cast {
                    number.imm = structure;
                    call.imm = function;
                    call.set_src_reg(BPF_PSEUDO_KFUNC_CALL);
                } else {
                    call.code = MOVE_REGISTER;
                    call.imm = 0;
                    call.set_src_reg(1);
                }
            }
            _ => {}
        }
        code = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::super::jobs::OBJECT;
    use super::super::object::Aligned;
    use super::*;

    /// That of the benchmark.
    static COST: &Aligned<[u8]> = &Aligned(*include_bytes!("../../bpf/cost.bpf.o"));

    /// Code, registers (of the source first) and number.
    fn words(object: &Object) -> Vec<(u8, u8, u8, i32)> {
        let code = object.functions.values().flat_map(|function| &function.instructions);
        code.map(|one| (one.code, one.src_reg(), one.dst_reg(), one.imm)).collect()
    }

    #[test]
    fn each_cast_of_the_objects_is_the_kernels_or_a_move() {
        for object in [OBJECT, COST] {
            each_cast_is(Object::parse(&object.0).unwrap());
        }
    }

    fn each_cast_is(object: Object) {
        let before = words(&object);
        let places: Vec<usize> = (1..before.len()).filter(|at| before[*at].3 == CALL).collect();
        assert!(places.len() > 40, "{}", places.len());
        assert_eq!(before.iter().filter(|word| word.3 == TYPE).count(), places.len(), "side by side");

        let mut with = object.clone();
        put(&mut with, Some(Cast { function: 7, structure: 9 }));
        let mut without = object;
        put(&mut without, None);
        let (mut expected_with, mut expected_without) = (before.clone(), before);
        for at in places {
            expected_with[at - 1].3 = 9;
            expected_with[at] = (0x85, 2, 0, 7);
            // r0 = r1
            expected_without[at] = (0xbf, 1, 0, 0);
        }
        assert_eq!(words(&with), expected_with);
        assert_eq!(words(&without), expected_without);
    }

    #[test]
    fn both_numbers_are_needed() {
        assert_eq!(Cast::new(&[Some(7), Some(9)]), Some(Cast { function: 7, structure: 9 }));
        assert_eq!(Cast::new(&[None, Some(9)]), None, "before Linux 6.2");
        assert_eq!(Cast::new(&[Some(7), None]), None);
    }
}
