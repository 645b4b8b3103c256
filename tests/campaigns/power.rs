//! D-02: the power goes. What was written but is not on the disk is gone then: server and database are stopped where they
//! are, their disk, a file system of its own that writes nothing of its own accord, is copied as it is, and a fresh server
//! goes on with the copy.
//!
//! A build with the feature `defects` tries the campaign itself first: where commits are answered before they are on the
//! disk, it must miss something.
//!
//! ```text
//! cargo test --release --features defects --test campaigns -- power [--trials N] [--store sqlite|postgres] [--seed N]
//! ```

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Args,
    answered::{self, Answered, Database, Dice},
    cluster::Cluster,
    crash::report,
};

/// Trials in which a defect must show.
const TRIALS_WITH_DEFECT: u64 = 10;
/// What a cluster would write soon of its own accord it writes late, so that whatever nobody waits for is lost.
const LATE: [&str; 4] = ["wal_writer_delay=10s", "bgwriter_delay=10s", "max_wal_size=64MB", "min_wal_size=32MB"];

/// A file system in a file, as long as this lives.
pub(crate) struct Disk {
    image: PathBuf,
    pub(crate) at: PathBuf,
}

impl Disk {
    pub(crate) fn make(scratch: &Path) -> Result<Self, String> {
        let image = scratch.join("0");
        std::fs::File::create(&image).unwrap().set_len(512 << 20).unwrap();
        tell(Command::new("mkfs.ext4").args(["-q", "-F", "-E", "lazy_itable_init=0"]).arg(&image))?;
        Self::mount(scratch, image)
    }

    fn mount(scratch: &Path, image: PathBuf) -> Result<Self, String> {
        let at = scratch.join("disk");
        std::fs::create_dir_all(&at).unwrap();
        tell(Command::new("mount").args(["-o", "loop,commit=300"]).arg(&image).arg(&at))?;
        // The database's own user is another.
        std::fs::set_permissions(&at, std::fs::Permissions::from_mode(0o777)).unwrap();
        Ok(Self { image, at })
    }

    /// As it is on the disk at this moment.
    fn copy(&self, to: &Path) {
        tell(Command::new("cp").arg("--sparse=always").arg(&self.image).arg(to)).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if tell(Command::new("umount").arg(&self.at)).is_err() {
            let _ = tell(Command::new("umount").arg("-l").arg(&self.at));
        }
        let _ = std::fs::remove_file(&self.image);
    }
}

pub(crate) fn tell(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

pub(crate) fn run(args: &Args) -> bool {
    let seed = args.number("seed", 1, 1);
    let mut held = true;
    for (store, on_postgres) in [("sqlite", false), ("postgres", true)] {
        if args.word("store").is_some_and(|word| word != store) {
            continue;
        }
        let cut = |trials, seeded: &[(&str, String)]| cut(on_postgres, trials, seed, seeded);
        if cfg!(feature = "defects") {
            match cut(TRIALS_WITH_DEFECT, &[("DEFECT", "sync".to_owned())]) {
                Ok(cut) => {
                    let noticed = !cut.missed.is_empty();
                    let what = if noticed { "noticed" } else { "not noticed: this proves nothing" };
                    let (creates, ends) = cut.counts;
                    println!(
                        "  {store:9} commits answered before they are on the disk: {what}; {creates} creates and {ends} revokes, {} missed \
                         behind {} power cuts",
                        cut.missed.len(),
                        cut.trials
                    );
                    cut.missed.iter().take(2).for_each(|missed| println!("    {missed}"));
                    held &= noticed;
                }
                Err(why) => println!("  {store:9} skipped: a file system cannot be mounted here ({why})"),
            }
        }
        match cut(args.number("trials", 3, 50), &[]) {
            Ok(cut) => held &= report(&format!("{store:9} {} power cuts", cut.trials), cut.counts, &cut.missed, seed),
            Err(why) => println!("  {store:9} skipped: a file system cannot be mounted here ({why})"),
        }
    }
    held
}

/// What came of power cuts.
struct Cut {
    trials: u64,
    counts: (usize, usize),
    missed: Vec<String>,
}

/// Cuts the power so often, or until something is missed. Each time it goes on with the disk as it was left.
fn cut(on_postgres: bool, trials: u64, seed: u64, seeded: &[(&str, String)]) -> Result<Cut, String> {
    let (outside, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (answered, mut dice) = (Answered::in_directory(outside.path()), Dice(seed));
    let mut disk = Disk::make(scratch.path())?;
    let data = disk.at.join("countersign");
    std::fs::create_dir(&data).unwrap();
    let mut root = None;
    for trial in 0.. {
        let cluster = on_postgres.then(|| Cluster::at(&disk.at.join("postgres"), &LATE));
        let url = cluster.as_ref().map_or_else(String::new, |cluster| cluster.url_at(cluster.port));
        // What an operator does is on the disk; from there on nobody helps.
        let root = root.get_or_insert_with(|| {
            let root = answered::root(&data, &url);
            tell(Command::new("sync").arg("-f").arg(&data)).unwrap();
            root
        });
        let server = answered::start(&data, &url, seeded);
        let found = match &server {
            Ok(server) => {
                let database = cluster.as_ref().map_or_else(|| Database::Sqlite(data.clone()), Database::Postgres);
                answered.missed(&database, server.address, root, trial == trials)
            }
            Err(said) => vec![format!("no server starts: {said}")],
        };
        if trial == trials || !found.is_empty() {
            let missed = found.into_iter().map(|found| format!("power cut {trial}: {found}")).collect();
            // Nobody is left on the disk.
            drop((server, cluster));
            return Ok(Cut { trials: trial, counts: answered.counts(), missed });
        }
        let (server, next) = (server.unwrap(), scratch.path().join((trial + 1).to_string()));
        answered.until(server.address, root, 100 + dice.below(400), || {
            server.signal("-STOP");
            cluster.iter().for_each(|cluster| cluster.signal("-STOP"));
            disk.copy(&next);
            cluster.iter().for_each(|cluster| cluster.signal("-KILL"));
            server.signal("-KILL");
        });
        drop((server, cluster, disk));
        disk = Disk::mount(scratch.path(), next)?;
    }
    unreachable!("trials end")
}
