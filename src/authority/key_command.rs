//! The command that gives the server key.
//!
//! It is run by a shell: what keeps secrets is asked by a pipe more often than not (`… decrypt … | base64 -d`), and the
//! command is the operator's own, with nothing of anybody else in it. What it writes to standard output is never shown. What
//! it complains of is, without whatever could be a key.

use std::{
    io::Read as _,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use zeroize::Zeroizing;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes that it may write.
const MOST: u64 = 1 << 20;
/// Characters of its complaints that are told.
const TOLD: usize = 400;
/// Digits of base64 behind one another that could be a key.
const LIKE_A_KEY: usize = 40;

/// Runs it and returns what it gives.
///
/// # Errors
/// What went wrong, without a piece of a key.
pub(super) fn run(command: &str) -> Result<Zeroizing<String>, String> {
    run_for(command, PATIENCE)
}

fn run_for(command: &str, patience: Duration) -> Result<Zeroizing<String>, String> {
    let mut command_of_shell = Command::new("/bin/sh");
    command_of_shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // What is ours alone it need not know. A group of its own, so that all of it can be ended.
    command_of_shell.env_remove("COUNTERSIGN_KEY").env_remove("COUNTERSIGN_DATABASE").process_group(0);
    let mut child = command_of_shell.spawn().map_err(|e| format!("/bin/sh can't be run: {e}"))?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (done, finished) = mpsc::channel();
    let finish = move || {
        let complaints = std::thread::spawn(move || {
            let mut complaints = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = (&mut stderr).take(MOST).read_to_end(&mut complaints);
            }
            complaints
        });
        let mut text = Zeroizing::new(Vec::with_capacity(1 << 16));
        let read = stdout.map_or(Ok(0), |stdout| stdout.take(MOST).read_to_end(&mut text));
        let status = child.wait();
        let _ = done.send((read.and(status), text, complaints.join().unwrap_or_default()));
    };
    std::thread::Builder::new().name("key-command".to_owned()).spawn(finish).map_err(|e| e.to_string())?;
    let Ok((status, text, complaints)) = finished.recv_timeout(patience) else {
        let _ = group.map(|group| kill_process_group(group, Signal::KILL));
        return Err(format!("it did not end within {patience:?}"));
    };
    let status = status.map_err(|e| e.to_string())?;
    if !status.success() {
        return Err(format!("it ended with {status}: {}", without_keys(&String::from_utf8_lossy(&complaints))));
    }
    let text = std::str::from_utf8(&text).map_err(|_| "it gave no text".to_owned())?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// The end of what it complained of, in one line, without whatever could be a key.
fn without_keys(complaints: &str) -> String {
    let harmless: String = complaints.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let is_digit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_');
    let blotted = |word: &str| match word.split(|c| !is_digit(c)).any(|run| run.len() >= LIKE_A_KEY) {
        true => "[REDACTED]".to_owned(),
        false => word.to_owned(),
    };
    let words: Vec<_> = harmless.split_whitespace().map(blotted).collect();
    let text = words.join(" ");
    let from = text.char_indices().rev().nth(TOLD).map_or(0, |(at, _)| at);
    text[from..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_gives_and_what_it_complains_of() {
        assert_eq!(*run("printf 'a%s' b | cat").unwrap(), "ab");
        let key = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=";
        let complaint = run(&format!("echo {key}; echo no access, {key} >&2; exit 3")).unwrap_err();
        assert!(complaint.contains("no access") && complaint.contains('3') && !complaint.contains("QUFB"), "{complaint}");
        assert!(run("exec 2>&1; printf '\\377'").unwrap_err().contains("no text"));
        assert!(run_for("sleep 100 & sleep 100", Duration::from_millis(50)).unwrap_err().contains("did not end"));
    }
}
