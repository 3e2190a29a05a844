//! A captured tree: plain files, no device numbers, nothing to wake. All of it is read at every refresh.

use super::super::parse::{client_id, parse_fdinfo};
use super::super::proc::parse_stat;
use super::client::Holder;
use super::{ClientScanner, decimal};
use gpuscope_model::{Reason, Why};
use gpuscope_sys::{Error, KernelFile, list_dir, monotonic_ns, read_text};

impl ClientScanner {
    pub(super) fn refresh_captured(&mut self) {
        self.denied = 0;
        self.hidden = None;
        for client in self.clients.iter_mut() {
            client.holders.clear();
        }
        let names = match list_dir(&self.roots.proc("")) {
            Ok(names) => names,
            Err(e) => {
                self.hidden = Some(Why::new(Reason::NotSupported, format!("no processes in this tree: {e}")));
                return;
            }
        };
        for pid in names.iter().filter_map(|name| decimal(name.as_bytes())) {
            let stat = read_text(self.roots.proc(format!("{pid}/stat"))).ok().and_then(|text| parse_stat(&text));
            if stat.is_some_and(|s| s.kernel || s.ended) {
                continue;
            }
            if let Err(Error::Permission { .. }) = self.take_captured(pid) {
                self.denied = self.denied.saturating_add(1);
            }
        }
    }

    fn take_captured(&mut self, pid: u32) -> Result<(), Error> {
        let dir = self.roots.proc(format!("{pid}/fdinfo"));
        for name in list_dir(&dir)? {
            let Some(fd) = decimal(name.as_bytes()) else { continue };
            let Ok(file) = KernelFile::open(dir.join(name)) else { continue };
            let Ok(text) = file.read(&mut self.text) else { continue };
            let read_ns = monotonic_ns();
            let text = String::from_utf8_lossy(text);
            let Some(id) = client_id(&text) else { continue };
            let pdev = text.lines().find_map(|line| Some(line.strip_prefix("drm-pdev:")?.trim()));
            let Some(target) = self.targets.iter().position(|t| t.wanted && t.pdev.as_deref() == pdev) else {
                continue;
            };
            let readable = self.targets.get(target).is_some_and(|t| t.readable);
            let Some(client) = self.clients.hold(target, id, Holder { pid, fd }) else { continue };
            if readable && client.read_tick != self.tick {
                parse_fdinfo(&text, &mut client.info);
                client.read_ns = read_ns;
                client.read_tick = self.tick;
            }
        }
        Ok(())
    }
}
