//! F-04, F-05, F-09, D-04: the disk of the embedded database is full, slow, fails or takes nothing; what is logged, and what is
//! signed of the audit log, goes where nobody takes it. Nobody restarts the server.
//!
//! ```text
//! cargo test --release --test campaigns -- disks [--millis N] [--fault NAME]
//! ```

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    Args,
    answered::{self, Answered, Database, End, root},
    broken::{Fault, Patient, Verify},
    crash::report,
    node::{Client, Server},
    power::{Disk, tell},
};

/// More than the log of the embedded database grows to, and the reserve.
const SMALL: &str = "size=8m";
const LARGE: &str = "remount,size=64m";
/// What whoever waits for a disk is made to wait.
const SLOW: &str = "300ms";

/// A log that is not lost at once.
const WAITS: &str = "a pipe that nobody reads";

pub(crate) fn run(args: &Args) -> bool {
    let lasts = Duration::from_millis(args.number("millis", 1200, 20_000));
    let usual = Fault { name: "", lasts, verify: Verify::GoesOn, refuses: true, ends: false, unready: true, slower: 1 };
    let traced = Fault { slower: 5, ..usual };
    type Try<'t> = &'t dyn Fn() -> Result<Vec<String>, String>;
    let faults: [(&str, Try<'_>); 8] = [
        ("full", &|| full(args, &Fault { name: "a full disk", ends: true, ..usual })),
        ("reserve", &reserve),
        ("slow", &|| {
            let inject = format!("fdatasync,fsync:delay_enter={SLOW}");
            traced_by(args, &Fault { name: "a slow disk", refuses: false, ends: true, unready: false, ..traced }, &inject)
        }),
        ("sync", &|| {
            // What fails with others is tried again alone, so few are refused, or nobody is.
            let inject = "fdatasync,fsync:error=EIO:when=1+2";
            traced_by(args, &Fault { name: "each second fdatasync fails", refuses: false, unready: false, ..traced }, inject)
        }),
        ("io", &|| traced_by(args, &Fault { name: "each fdatasync fails", ..traced }, "fdatasync,fsync:error=EIO")),
        ("space", &|| traced_by(args, &Fault { name: "each write finds no space", ..traced }, "pwrite64:error=ENOSPC")),
        ("read-only", &|| read_only(args, &Fault { name: "files that nobody may change", ..usual })),
        ("sinks", &|| sinks(args, lasts)),
    ];
    let mut held = true;
    for (name, try_it) in faults {
        if args.word("fault").is_some_and(|word| word != name) {
            continue;
        }
        match try_it() {
            Ok(wrong) => held &= wrong.is_empty(),
            Err(why) => println!("  {name} skipped: {why}"),
        }
    }
    held
}

fn patient<'p>(args: &'p Args, server: &'p Server, answered: &'p Answered, data: &Path, root: &'p str) -> Patient<'p> {
    Patient { args, server, answered, database: Database::Sqlite(data.to_owned()), root }
}

/// A server on a data directory, a fault, and what a fresh server says behind it.
fn suffers(args: &Args, data: &Path, fault: &Fault<'_>, broken: impl FnOnce(&Server), repair: impl FnOnce(&Server)) -> Vec<String> {
    let outside = tempfile::tempdir().unwrap();
    let (answered, root) = (Answered::in_directory(outside.path()), root(data, ""));
    let mut server = answered::start(data, "", &[]).unwrap();
    answered.until(server.address, &root, 300, || {});
    let mut wrong = patient(args, &server, &answered, data, &root).suffers(500, fault, || broken(&server), || repair(&server));
    if !server.runs() || server.panics() > 0 {
        wrong.push(format!("{}: it ended, or panicked", fault.name));
    }
    // What is in its memory says nothing about the database.
    server.signal("-KILL");
    drop(server);
    match answered::start(data, "", &[]) {
        Ok(server) => wrong.extend(patient(args, &server, &answered, data, &root).missed(true)),
        Err(said) => wrong.push(format!("{}: no server starts behind it: {said}", fault.name)),
    }
    report("  behind it", answered.counts(), &wrong, 1);
    wrong
}

/// A file system in memory, as long as this lives.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(options: &str) -> Result<Self, String> {
        let directory = tempfile::tempdir().unwrap();
        tell(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(directory.path()))?;
        Ok(Self(directory))
    }

    /// To the last byte.
    fn fill(&self) {
        let mut filler = std::fs::OpenOptions::new().create(true).append(true).open(self.0.path().join("filler")).unwrap();
        for block in [65536_usize, 4096, 1] {
            while filler.write_all(&vec![0; block]).is_ok() {}
        }
    }

    fn enlarge(&self) {
        tell(Command::new("mount").args(["-o", LARGE]).arg(self.0.path())).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = tell(Command::new("umount").arg("-l").arg(self.0.path()));
    }
}

const NO_SMALL: &str = "a small file system cannot be mounted here";

/// F-04: somebody else fills the disk; then it is made larger.
fn full(args: &Args, fault: &Fault<'_>) -> Result<Vec<String>, String> {
    let disk = Small::mount(SMALL).map_err(|why| format!("{NO_SMALL} ({why})"))?;
    let data = disk.0.path().join("data");
    std::fs::create_dir(&data).unwrap();
    Ok(suffers(args, &data, fault, |_| disk.fill(), |_| disk.enlarge()))
}

/// F-04: on a disk that is full to the last byte, with a log of the database that has no room yet, the reserve alone carries
/// hundreds of revokes.
fn reserve() -> Result<Vec<String>, String> {
    // So large that what is made first, however fast, does not fill it.
    let disk = Small::mount("size=64m").map_err(|why| format!("{NO_SMALL} ({why})"))?;
    let (outside, data) = (tempfile::tempdir().unwrap(), disk.0.path().join("data"));
    std::fs::create_dir(&data).unwrap();
    let (answered, root) = (Answered::in_directory(outside.path()), root(&data, ""));
    let server = answered::start(&data, "", &[]).unwrap();
    answered.until(server.address, &root, 1500, || {});
    // Whoever leaves last takes the log away.
    server.end();
    let server = answered::start(&data, "", &[]).unwrap();
    disk.fill();
    let live: Vec<_> = answered.read().into_iter().filter(|token| token.end == End::No).take(200).collect();
    let refused = answered.end_all(server.address, &root, &live);
    let mut wrong = Vec::new();
    if refused > 0 || live.len() < 100 {
        wrong.push(format!("{refused} of {} revokes were refused on a full disk", live.len()));
    }
    if data.join("ballast").exists() {
        wrong.push("the reserve was not needed: this proves nothing".to_owned());
    }
    disk.enlarge();
    wrong.extend(answered.missed(&Database::Sqlite(data.clone()), server.address, &root, true));
    report(&format!("a full disk, and the reserve alone: {} revokes", live.len()), answered.counts(), &wrong, 1);
    Ok(wrong)
}

/// Who changes what system calls of a process come to, as long as this lives.
struct Tracer(Child);

impl Tracer {
    fn of(server: &Server, inject: &str) -> Result<Self, String> {
        let (calls, _) = inject.split_once(':').unwrap();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e", &format!("inject={inject}")]);
        let child = strace.args(["-p", &server.pid().to_string()]).stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut tracer = Self(child.map_err(|e| format!("strace: {e}"))?);
        let is_traced = |status: String| !status.contains("TracerPid:\t0\n");
        let all = || std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().flatten();
        while !all().all(|task| std::fs::read_to_string(task.path().join("status")).is_ok_and(is_traced)) {
            if tracer.0.try_wait().unwrap().is_some() {
                let mut said = String::new();
                std::io::Read::read_to_string(&mut tracer.0.stderr.take().unwrap(), &mut said).unwrap();
                return Err(format!("strace cannot attach here ({})", said.trim()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(tracer)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

/// D-04: what the server asks of the disk comes to something else.
fn traced_by(args: &Args, fault: &Fault<'_>, inject: &str) -> Result<Vec<String>, String> {
    // Whether it can be done at all is found out on a process that is nobody's.
    let data = tempfile::tempdir().unwrap();
    root(data.path(), "");
    Tracer::of(&answered::start(data.path(), "", &[])?, inject)?;
    let (data, tracer) = (tempfile::tempdir().unwrap(), std::cell::RefCell::new(None));
    let broken = |server: &Server| *tracer.borrow_mut() = Some(Tracer::of(server, inject).unwrap());
    Ok(suffers(args, data.path(), fault, broken, |_| drop(tracer.take())))
}

/// F-09: the files of the database are such that nobody may write to them, open or not.
fn read_only(args: &Args, fault: &Fault<'_>) -> Result<Vec<String>, String> {
    let scratch = tempfile::tempdir().unwrap();
    let disk = Disk::make(scratch.path()).map_err(|why| format!("a file system cannot be mounted here ({why})"))?;
    let data = disk.at.join("countersign");
    std::fs::create_dir(&data).unwrap();
    let files = ["countersign.db", "countersign.db-wal"].map(|name| data.join(name));
    let change = |how: &str| tell(Command::new("chattr").arg(how).args(&files)).unwrap();
    Ok(suffers(args, &data, fault, |_| change("+i"), |_| change("-i")))
}

/// F-05: nobody takes the log, or the signed heads of the audit log. Changes are entered in the audit log all the same, which is in
/// the database and of one transaction with them, and nobody waits.
fn sinks(args: &Args, lasts: Duration) -> Result<Vec<String>, String> {
    let scratch = tempfile::tempdir().unwrap();
    let pipe = |name: &str| -> PathBuf {
        let path = scratch.path().join(name);
        tell(Command::new("mkfifo").arg(&path)).unwrap();
        path
    };
    // Open, as somebody who stopped has it, so that who writes to it waits when it is full.
    let both_ways = |path: &Path| std::fs::File::options().read(true).write(true).open(path).unwrap();
    let disk = Small::mount("size=64k").map_err(|why| format!("{NO_SMALL} ({why})"))?;
    disk.fill();
    let full = disk.0.path().join("more");
    let log = std::fs::File::options().create(true).append(true).open(&full).unwrap();
    let (log_pipe, head_pipe) = (pipe("log"), pipe("heads"));
    let logs: [(&str, Stdio, &Path); 3] = [
        ("a full disk", log.into(), &full),
        (WAITS, both_ways(&log_pipe).into(), &head_pipe),
        ("a device that takes nothing", both_ways(Path::new("/dev/full")).into(), Path::new("/nowhere/heads")),
    ];
    let mut wrong = Vec::new();
    for (name, log, heads) in logs {
        let (outside, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (answered, root) = (Answered::in_directory(outside.path()), root(data.path(), ""));
        let more = ["--audit-head".to_owned(), format!("file:{}", heads.display()), "--lease".to_owned(), "200ms".to_owned()];
        let server = Server::start_logging_to(log, data.path(), &more);
        answered.until(server.address, &root, 300, || {});
        let what = format!("log and heads to {name}");
        let fault =
            Fault { name: &what, lasts: lasts * 2 / 3, verify: Verify::GoesOn, refuses: false, ends: true, unready: false, slower: 1 };
        wrong.extend(patient(args, &server, &answered, data.path(), &root).suffers(0, &fault, || {}, || {}));
        let metrics = Client::of(server.admin, Duration::from_secs(5)).ask("GET", "/metrics", "", "").unwrap().1;
        let number = |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        let shown = |name: &str| number(name).map_or_else(|| "?".to_owned(), |count| count.to_string());
        println!(
            "  {:42} {} heads failed, {} lines lost",
            "",
            shown("countersign_audit_head_failures_total"),
            shown("countersign_log_lines_lost_total"),
        );
        if number("countersign_audit_head_failures_total").is_none_or(|count| count == 0) {
            wrong.push(format!("{what}: no head is said to have failed"));
        }
        // A pipe takes some before it is full, and then thousands wait.
        if name != WAITS && number("countersign_log_lines_lost_total").is_none_or(|count| count == 0) {
            wrong.push(format!("{what}: no line is said to be lost"));
        }
        wrong.extend(patient(args, &server, &answered, data.path(), &root).missed(true));
        let began = Instant::now();
        server.end();
        if began.elapsed() > Duration::from_secs(20) {
            wrong.push(format!("{what}: it took {:.1} s to end", began.elapsed().as_secs_f64()));
        }
        report("  behind it", answered.counts(), &wrong, 1);
    }
    Ok(wrong)
}
