//! B1: how large the release binary is, and how long its build takes from nothing.

use std::{fs, process::Command};

use crate::{
    Outcome,
    dataset::fresh,
    report::{Bound, Series, Verdicts, note, now},
};

pub(crate) fn build() -> Outcome {
    let target = fresh("release")?;
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).env("CARGO_TARGET_DIR", &target).status()
    };
    note("building; what has to be fetched is fetched first");
    let fetched = cargo(&["fetch", "--locked"])?.success();
    let began = now();
    if !fetched || !cargo(&["build", "--release", "--locked", "--offline"])?.success() {
        return Err("the build failed".into());
    }
    let minutes = (now() - began).as_secs_f64() / 60.0;
    let megabytes = fs::metadata(target.join("release/countersign"))?.len() as f64 / 1e6;
    let mut verdicts = Verdicts::new();
    verdicts.add("B1 release binary, MB", &Series(vec![megabytes]), Bound::AtMost(30.0), Bound::AtMost(15.0));
    verdicts.add("B1 build from clean, minutes", &Series(vec![minutes]), Bound::AtMost(8.0), Bound::AtMost(4.0));
    verdicts.print("B1");
    fs::remove_dir_all(target)?;
    Ok(())
}
