//! From options to the settings of a capture, and to the words for them in recordings and sessions.

use super::record::say;
use crate::args::{Common, Keep, KeepShare};
use crate::select;
use anyhow::{Context as _, anyhow, bail};
use gpuscope_gpu::GpuSet;
use gpuscope_host::Users;
use gpuscope_model::DeviceInfo;
use gpuscope_model::trace::EventKind;
use gpuscope_sys::{Roots, list_dir};
use gpuscope_trace::capture::settings::{Limit, Lists, RingName, Settings};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// No more folders below a cgroup are listed.
const MOST_CGROUPS: usize = 4096;

/// What is known of the machine, to understand names.
struct Machine<'a> {
    roots: &'a Roots,
    users: Users,
    gpus: Vec<DeviceInfo>,
}

impl<'a> Machine<'a> {
    fn new(common: &Common, roots: &'a Roots, gpus: Vec<DeviceInfo>) -> Machine<'a> {
        let root = common.root.as_deref().unwrap_or(Path::new("/"));
        let passwd = std::fs::read_to_string(root.join("etc/passwd")).unwrap_or_default();
        Machine { roots, users: Users::parse(&passwd), gpus }
    }
}

/// What a command line asks to be kept.
pub(super) struct Asked<'a> {
    pub(super) keep: &'a Keep,
    /// Only jobs of the command that this process starts.
    pub(super) only_cmd: bool,
    pub(super) watched: Watched,
}

/// What is looked for in the jobs while they are traced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Watched {
    Not,
    /// How they are and how they end.
    Jobs,
    /// Those that are stuck, too.
    StuckJobs,
}

/// The settings for this machine. GPUs for which an option does nothing are told on stderr.
pub(super) fn on_this_machine(common: &Common, asked: &Asked<'_>) -> anyhow::Result<Settings> {
    let roots = Roots::host();
    let gpus = GpuSet::open(roots.clone(), super::super::options(common)).infos().cloned().collect();
    let machine = Machine::new(common, &roots, gpus);
    let settings = settings(asked, &machine)?;
    for gpu in without_classes(asked.keep, &machine.gpus) {
        say(&format!(
            "GPU {}: {} does not name its rings by class; --class takes none of them for its own",
            gpu.id, gpu.driver
        ));
    }
    Ok(settings)
}

/// The settings that the options ask for.
fn settings(asked: &Asked<'_>, of: &Machine<'_>) -> anyhow::Result<Settings> {
    let Asked { keep, only_cmd, watched } = asked;
    let mut settings = Settings::default();
    let filters = &mut settings.filters;
    filters.pids = Lists { allow: keep.pid.clone(), deny: keep.not_pid.clone() };
    filters.with_children = keep.children || *only_cmd;
    if keep.children && filters.pids == Lists::default() {
        bail!("--children: no process is named whose children are meant; add --pid or --not-pid");
    }
    if *only_cmd {
        // The command is a child of this process, which submits nothing itself.
        filters.pids.allow.push(std::process::id());
    }
    filters.uids = both(&keep.user, &keep.not_user, |user| uid(user, &of.users).map(|uid| vec![uid]))?;
    filters.cgroups = both(&keep.cgroup, &keep.not_cgroup, |cgroup| cgroups(cgroup, of.roots))?;
    filters.comms = Lists { allow: keep.comm.clone(), deny: keep.not_comm.clone() };
    filters.gpus = Lists { allow: select::ids(&keep.gpu, &of.gpus)?, deny: select::ids(&keep.not_gpu, &of.gpus)? };
    filters.rings = both(&keep.ring, &keep.not_ring, |name| ring(name, &of.gpus).map(|ring| vec![ring]))?;
    let classes = |of: &[crate::args::KeepClass]| of.iter().map(|class| (*class).into()).collect();
    filters.classes = Lists { allow: classes(&keep.class), deny: classes(&keep.not_class) };
    let kinds = |of: &[crate::args::KeepKind]| of.iter().map(|kind| (*kind).into()).collect();
    filters.kinds = Lists { allow: kinds(&keep.event), deny: kinds(&keep.not_event) };
    if *watched == Watched::StuckJobs && keep.slower_than.is_some() {
        bail!(
            "--slower-than: jobs come when they have ended, and none can be told as stuck; leave it out, or the alarm"
        );
    }
    if *watched != Watched::Not
        && let Some(kind) = WATCHED.iter().find(|kind| !is_kept(&filters.kinds, **kind))
    {
        bail!(
            "jobs are watched, and {} events are left out, without which none is known; add --event {}",
            kind.name(),
            kind.name().to_lowercase()
        );
    }
    for KeepShare { ring: of_ring, part } in &keep.sample {
        match of_ring {
            Some(name) => settings.sampling.rings.push((ring(name, &of.gpus)?, *part)),
            None => settings.sampling.share = *part,
        }
    }
    settings.sampling.target_events_per_second = keep.max_events_per_second;
    settings.sampling.target_cpu_ratio = keep.max_cpu;
    settings.sampling.slower_than_ns = keep.slower_than.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    let bucket = keep.rate_limit.map(|rate| Limit::Bucket { jobs_per_second: rate.jobs_per_second, burst: rate.burst });
    let window = keep.window_limit.map(|window| Limit::Window {
        jobs: window.jobs,
        length_ns: u64::try_from(window.length.as_nanos()).unwrap_or(u64::MAX),
    });
    settings.limit = bucket.or(window);
    Ok(settings)
}

/// Events without which it is not known how jobs are.
const WATCHED: [EventKind; 3] = [EventKind::Submit, EventKind::Commit, EventKind::Complete];

fn is_kept(kinds: &Lists<EventKind>, kind: EventKind) -> bool {
    (kinds.allow.is_empty() || kinds.allow.contains(&kind)) && !kinds.deny.contains(&kind)
}

fn both<T>(
    allow: &[String],
    deny: &[String],
    find: impl Fn(&str) -> anyhow::Result<Vec<T>>,
) -> anyhow::Result<Lists<T>> {
    let all = |words: &[String]| -> anyhow::Result<Vec<T>> {
        let mut found = Vec::new();
        for word in words {
            found.extend(find(word)?);
        }
        Ok(found)
    };
    Ok(Lists { allow: all(allow)?, deny: all(deny)? })
}

fn uid(user: &str, users: &Users) -> anyhow::Result<u32> {
    let number = users.number(user).or_else(|| user.parse().ok());
    number
        .with_context(|| format!("--user {user}: no such user in /etc/passwd; give the user's number (`id -u {user}`)"))
}

/// The folder of a cgroup: a path, absolute or as seen from `here`, or one under the mount.
fn cgroup_folder(cgroup: &str, here: &Path, roots: &Roots) -> anyhow::Result<PathBuf> {
    let mount = roots.sys("fs/cgroup");
    let given = Path::new(cgroup);
    let inside = mount.join(given.strip_prefix("/").unwrap_or(given));
    let found = [here.join(given), inside].into_iter().find(|path| path.join("cgroup.procs").is_file());
    found.with_context(|| {
        format!("--cgroup {cgroup}: no such cgroup; give its path under {} or its number", mount.display())
    })
}

/// The same options with cgroups that mean the same to a process that works in another folder.
pub(super) fn from_anywhere(keep: &Keep, here: &Path, roots: &Roots) -> anyhow::Result<Keep> {
    let absolute = |cgroup: &String| -> anyhow::Result<String> {
        if cgroup.parse::<u64>().is_ok() || Path::new(cgroup).is_absolute() {
            return Ok(cgroup.clone());
        }
        let path = cgroup_folder(cgroup, here, roots)?;
        let path =
            path.to_str().with_context(|| format!("--cgroup {cgroup}: its whole path is no text; give its number"))?;
        Ok(path.to_string())
    };
    let all = |of: &[String]| of.iter().map(absolute).collect::<anyhow::Result<Vec<_>>>();
    Ok(Keep { cgroup: all(&keep.cgroup)?, not_cgroup: all(&keep.not_cgroup)?, ..keep.clone() })
}

/// The numbers of a cgroup and of those below it.
fn cgroups(cgroup: &str, roots: &Roots) -> anyhow::Result<Vec<u64>> {
    if let Ok(number) = cgroup.parse() {
        return Ok(vec![number]);
    }
    let mut numbers = Vec::new();
    let mut folders: Vec<PathBuf> = vec![cgroup_folder(cgroup, Path::new(""), roots)?];
    while let Some(folder) = folders.pop() {
        // Gone meanwhile: no more jobs come from it.
        let Ok(meta) = std::fs::metadata(&folder) else { continue };
        numbers.push(meta.ino());
        if numbers.len() > MOST_CGROUPS {
            bail!("--cgroup {cgroup}: more than {MOST_CGROUPS} cgroups are below it; name some of these");
        }
        let below = list_dir(&folder).unwrap_or_default();
        folders.extend(below.iter().map(|name| folder.join(name)).filter(|path| path.join("cgroup.procs").is_file()));
    }
    Ok(numbers)
}

/// A ring of one GPU (`card0/gfx`, also `/dev/dri/card0/gfx`) or of all.
fn ring(text: &str, gpus: &[DeviceInfo]) -> anyhow::Result<RingName> {
    let (gpu, name) = match text.rsplit_once('/') {
        Some((gpu, name)) => (Some(gpu.to_string()), name),
        None => (None, text),
    };
    if name.is_empty() {
        bail!("ring {text}: no name; `gpuscope trace report` lists the rings that had jobs");
    }
    let gpu = gpu.map(|gpu| select::ids(std::slice::from_ref(&gpu), gpus)).transpose()?;
    Ok(RingName { gpu: gpu.and_then(|ids| ids.into_iter().next()), name: name.to_string() })
}

/// GPUs whose rings do not tell their class, where classes are asked for: id and driver.
fn without_classes<'g>(keep: &Keep, gpus: &'g [DeviceInfo]) -> Vec<&'g DeviceInfo> {
    if keep.class.is_empty() && keep.not_class.is_empty() {
        return Vec::new();
    }
    let tells = |gpu: &&DeviceInfo| !gpuscope_trace::capture::settings::RingClass::is_told_by(gpu.driver.as_str());
    gpus.iter().filter(tells).collect()
}

/// The options in words, as they may be given again.
pub(super) fn words(keep: &Keep) -> Vec<String> {
    let word = |(option, value): (&'static str, Option<String>)| match value {
        Some(value) => format!("--{option} {value}"),
        None => format!("--{option}"),
    };
    options(keep).into_iter().map(word).collect()
}

/// The options as arguments, one each.
pub(super) fn arguments(keep: &Keep) -> Vec<String> {
    let argument = |(option, value): (&'static str, Option<String>)| match value {
        Some(value) => format!("--{option}={value}"),
        None => format!("--{option}"),
    };
    options(keep).into_iter().map(argument).collect()
}

/// Such arguments as options again.
pub(super) fn parse(arguments: &[String]) -> anyhow::Result<Keep> {
    #[derive(clap::Parser)]
    #[command(no_binary_name = true)]
    struct Line {
        #[command(flatten)]
        keep: Keep,
    }
    // Its message has several lines, of which the first says it.
    let line = <Line as clap::Parser>::try_parse_from(arguments);
    line.map(|line| line.keep).map_err(|error| anyhow!("{}", error.to_string().lines().next().unwrap_or_default()))
}

fn options(keep: &Keep) -> Vec<(&'static str, Option<String>)> {
    let mut options = Vec::new();
    let mut list = |option: &'static str, of: Vec<String>| {
        options.extend(of.into_iter().map(|value| (option, Some(value))));
    };
    let numbers = |of: &[u32]| of.iter().map(u32::to_string).collect();
    list("pid", numbers(&keep.pid));
    list("not-pid", numbers(&keep.not_pid));
    list("user", keep.user.clone());
    list("not-user", keep.not_user.clone());
    list("cgroup", keep.cgroup.clone());
    list("not-cgroup", keep.not_cgroup.clone());
    list("comm", keep.comm.clone());
    list("not-comm", keep.not_comm.clone());
    list("gpu", keep.gpu.clone());
    list("not-gpu", keep.not_gpu.clone());
    list("ring", keep.ring.clone());
    list("not-ring", keep.not_ring.clone());
    list("class", names(&keep.class));
    list("not-class", names(&keep.not_class));
    list("event", names(&keep.event));
    list("not-event", names(&keep.not_event));
    let share = |share: &KeepShare| {
        let of = share.ring.as_ref().map(|ring| format!("{ring}=")).unwrap_or_default();
        format!("{of}{}%", share.part * 100.0)
    };
    list("sample", keep.sample.iter().map(share).collect());
    list("max-events-per-second", keep.max_events_per_second.iter().map(u64::to_string).collect());
    list("max-cpu", keep.max_cpu.iter().map(|part| format!("{}%", part * 100.0)).collect());
    list("slower-than", keep.slower_than.iter().map(|time| time_word(time.as_nanos())).collect());
    let rate = keep.rate_limit.map(|rate| format!("{}/s,{}", rate.jobs_per_second, rate.burst));
    list("rate-limit", rate.into_iter().collect());
    let window = keep.window_limit.map(|window| format!("{}/{}", window.jobs, time_word(window.length.as_nanos())));
    list("window-limit", window.into_iter().collect());
    if keep.children {
        options.push(("children", None));
    }
    options
}

fn names<T: clap::ValueEnum>(of: &[T]) -> Vec<String> {
    of.iter().filter_map(|value| Some(value.to_possible_value()?.get_name().to_string())).collect()
}

fn time_word(ns: u128) -> String {
    match ns {
        ns if ns % 1_000_000 == 0 => format!("{}ms", ns / 1_000_000),
        ns => format!("{}us", ns as f64 / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command, Trace};
    use clap::Parser as _;

    fn keep(options: &[&str]) -> Keep {
        let line = ["gpuscope", "trace", "record", "-o", "t"].iter().chain(options).chain(&["--", "true"]);
        let Some(Command::Trace(Trace::Record(record))) = Cli::try_parse_from(line).unwrap().command else { panic!() };
        record.keep
    }

    fn asked(keep: &Keep) -> Asked<'_> {
        Asked { keep, only_cmd: false, watched: Watched::Not }
    }

    fn machine(roots: &Roots) -> Machine<'_> {
        Machine { roots, users: Users::parse("root:x:0:0::/:/\nada:x:1000:1000::/:/\n"), gpus: Vec::new() }
    }

    fn of(options: &[&str]) -> anyhow::Result<Settings> {
        settings(&asked(&keep(options)), &machine(&Roots::at("/nowhere")))
    }

    #[test]
    fn nothing_asked_for_is_everything() {
        assert_eq!(of(&[]).unwrap(), Settings::default());
        assert!(words(&keep(&[])).is_empty());
    }

    #[test]
    fn each_option_has_its_setting() {
        let found =
            of(&["--pid", "12,34", "--not-pid", "5", "--children", "--user", "ada,7", "--not-uid", "root"]).unwrap();
        assert_eq!(found.filters.pids, Lists { allow: vec![12, 34], deny: vec![5] });
        assert!(found.filters.with_children);
        assert_eq!(found.filters.uids, Lists { allow: vec![1000, 7], deny: vec![0] });
        let found = of(&["--comm", "a, b", "--not-comm", "c", "--ring", "gfx,dma", "--class", "video"]).unwrap();
        assert_eq!(found.filters.comms, Lists { allow: vec!["a, b".into()], deny: vec!["c".into()] });
        assert_eq!(found.filters.rings.allow.len(), 2);
        assert_eq!(found.filters.classes.allow, [gpuscope_trace::capture::settings::RingClass::Video]);
        let found = of(&["--sample", "10%,gfx=50%", "--slower-than", "5ms", "--rate-limit", "100/s,3"]).unwrap();
        assert_eq!((found.sampling.share, found.sampling.rings.len()), (0.1, 1));
        assert_eq!(found.sampling.slower_than_ns, Some(5_000_000));
        assert_eq!(found.limit, Some(Limit::Bucket { jobs_per_second: 100.0, burst: 3 }));
        let found = of(&["--window-limit", "7/1s", "--max-events-per-second", "60", "--not-event", "commit"]).unwrap();
        assert_eq!(found.limit, Some(Limit::Window { jobs: 7, length_ns: 1_000_000_000 }));
        assert_eq!(found.sampling.target_events_per_second, Some(60));
        assert_eq!(of(&["--max-cpu", "0.5%"]).unwrap().sampling.target_cpu_ratio, Some(0.005));
        assert_eq!(found.filters.kinds.deny, [gpuscope_model::trace::EventKind::Commit]);
        let keep = Keep::default();
        let only_cmd = Asked { only_cmd: true, ..asked(&keep) };
        let found = settings(&only_cmd, &machine(&Roots::at("/nowhere"))).unwrap();
        assert_eq!((found.filters.pids.allow, found.filters.with_children), (vec![std::process::id()], true));
    }

    #[test]
    fn what_is_watched_must_be_seen_while_it_runs() {
        let of = |options: &[&str]| {
            let keep = keep(options);
            let asked = Asked { watched: Watched::StuckJobs, ..asked(&keep) };
            settings(&asked, &machine(&Roots::at("/nowhere"))).map_err(|error| error.to_string())
        };
        assert!(of(&["--event", "submit,commit,complete", "--sample", "10%"]).is_ok());
        assert!(of(&["--event", "submit,commit"]).unwrap_err().contains("add --event complete"));
        assert!(of(&["--not-event", "commit"]).unwrap_err().contains("add --event commit"));
        assert!(of(&["--slower-than", "1ms"]).unwrap_err().contains("leave it out"));
    }

    #[test]
    fn what_is_not_there_is_refused_with_a_remedy() {
        for (options, remedy) in [
            (&["--user", "nobody-here"][..], "give the user's number"),
            (&["--cgroup", "no/such"], "or its number"),
            (&["--gpu", "card7"], "gpuscope doctor"),
            (&["--ring", "card7/gfx"], "gpuscope doctor"),
            (&["--children"], "add --pid"),
        ] {
            let error = format!("{:#}", of(options).unwrap_err());
            assert!(error.contains(remedy), "{options:?}: {error}");
        }
    }

    #[test]
    fn a_cgroup_is_with_those_below_it() {
        let tree = tempfile::tempdir().unwrap();
        let folder = |path: &str| {
            let path = tree.path().join("sys/fs/cgroup").join(path);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("cgroup.procs"), "").unwrap();
            std::fs::metadata(path).unwrap().ino()
        };
        let mut expected = vec![folder("user.slice"), folder("user.slice/a"), folder("user.slice/a/b")];
        folder("system.slice");
        let roots = Roots::at(tree.path());
        let found = settings(&asked(&keep(&["--cgroup", "/user.slice"])), &machine(&roots)).unwrap();
        let mut allow = found.filters.cgroups.allow;
        allow.sort_unstable();
        expected.sort_unstable();
        assert_eq!(allow, expected);
        assert_eq!(settings(&asked(&keep(&["--cgroup", "77"])), &machine(&roots)).unwrap().filters.cgroups.allow, [77]);
    }

    #[test]
    fn a_cgroup_named_from_here_is_meant_by_a_session_elsewhere() {
        let tree = tempfile::tempdir().unwrap();
        let folder = |path: &str| {
            let path = tree.path().join("sys/fs/cgroup").join(path);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("cgroup.procs"), "").unwrap();
            path
        };
        let (slice, inner) = (folder("user.slice"), folder("user.slice/app"));
        let roots = Roots::at(tree.path());
        let of = |given: &[&str]| {
            let keep = Keep {
                cgroup: given.iter().map(|of| (*of).to_string()).collect(),
                not_cgroup: vec!["app".into()],
                ..keep(&["--children"])
            };
            from_anywhere(&keep, &slice, &roots)
        };
        let kept = of(&["app", "user.slice", "/user.slice", "77", "../user.slice/app"]).unwrap();
        let beside = slice.join("../user.slice/app");
        let expected =
            [inner.to_str().unwrap(), slice.to_str().unwrap(), "/user.slice", "77", beside.to_str().unwrap()];
        assert_eq!(kept.cgroup, expected);
        assert_eq!((kept.not_cgroup, kept.children), (vec![inner.to_str().unwrap().to_string()], true));
        let error = of(&["no/such"]).unwrap_err().to_string();
        assert!(error.contains("--cgroup no/such") && error.contains("or its number"), "{error}");
    }

    #[test]
    fn the_words_ask_for_the_same_again() {
        let options = [
            "--pid",
            "12,34",
            "--children",
            "--not-comm",
            "x",
            "--comm=-a b=, c",
            "--class",
            "video-enhance",
            "--event",
            "submit",
            "--sample",
            "12.5%",
            "--sample",
            "gfx=0%",
            "--max-cpu",
            "2.5%",
            "--slower-than",
            "250us",
            "--window-limit",
            "5/10ms",
        ];
        let first = keep(&options);
        let words = words(&first);
        assert!(words.contains(&"--slower-than 250us".to_string()), "{words:?}");
        assert!(words.contains(&"--comm -a b=, c".to_string()), "{words:?}");
        assert_eq!(parse(&arguments(&first)).unwrap(), first);
        let error = parse(&["--pid=x".to_string()]).unwrap_err().to_string();
        assert!(error.contains("--pid") && error.lines().count() == 1, "{error}");
    }
}
