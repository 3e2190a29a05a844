//! In place of `nvml.rs` in a build without the feature `nvml`: there is no NVML.

use super::parse::{Process, Readings};
use gpuscope_model::{PciAddress, Reason, Why};
use std::path::PathBuf;

/// There is none.
pub(super) enum Nvml {}

impl Nvml {
    pub(super) fn new(_library: Option<PathBuf>, _address: PciAddress, _version: Option<String>) -> Result<Self, Why> {
        Err(Why::new(Reason::NotSupported, "this build does not use NVML, the only source of NVIDIA's statistics")
            .remedy("build gpuscope-gpu with its feature nvml"))
    }

    pub(super) fn is_open(&self) -> bool {
        match *self {}
    }

    pub(super) fn open(&mut self) -> Result<(), Why> {
        match *self {}
    }

    pub(super) fn close(&mut self) {
        match *self {}
    }

    pub(super) fn read(&mut self, _out: &mut Readings) {
        match *self {}
    }

    pub(super) fn processes(&mut self, _now_ns: u64, _out: &mut Vec<Process>) -> Result<(), Why> {
        match *self {}
    }

    pub(super) fn describe(&self) -> Result<String, Why> {
        match *self {}
    }
}
