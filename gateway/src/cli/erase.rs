//! `kiroku erase`: a person, for good.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};

use super::output::{confirm, note};
use super::segments::{Whole, at};
use super::{Outcome, ToolError, desk, tool, yes};
use crate::drive::store::StoreError;
use crate::erase::EraseError;
use crate::platform::attach::With;

pub fn command() -> Command {
    let certificate = Arg::new("certificate").long("certificate").value_name("FILE");
    let certificate = certificate.value_parser(value_parser!(PathBuf));
    tool(Command::new("erase").about("Erase a person for good: their key, and all that is shown of them"))
        .arg(Arg::new("user").required(true).value_name("USER").help("@name, @name@host or id"))
        .arg(yes())
        .arg(certificate.help("Where to write the certificate, as JSON, beside printing it"))
        .after_help(
            "Works beside a running server, too. Asked again, it does again what is left to do. Exits with 1 \
             when something of the person is left. Backups: the log in them can't be read any more, but throw \
             away older files of keys. The feed on NATS: a running server takes them out of it, before it \
             tells of it; that is waited for, and the certificate says when it was not done.",
        )
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    desk::at_desk(matches, With::Others, async |desk| {
        let who = matches.get_one::<String>("user").map(String::as_str).unwrap_or_default();
        desk.follows().await?;
        let user = desk.person(who).await?;
        let question = format!("Erase {who} ({user}) for good? Nothing brings back what they wrote.");
        confirm(&question, matches.get_flag("yes"))?;
        let certificate = desk.eraser()?.erase(user).await?;
        if let Some(path) = matches.get_one::<PathBuf>("certificate") {
            let json = serde_json::to_vec_pretty(&certificate).map_err(|e| ToolError::Output(e.into()))?;
            let mut file = Whole::create(path).map_err(at(path))?;
            file.write_all(&json).and_then(|()| file.finish()).map_err(at(path))?;
        }
        desk.output.either(&certificate, &certificate)?;
        if certificate.is_complete() {
            return Ok(Outcome::Done);
        }
        note("not everything is gone: see the certificate, and run this again");
        Ok(Outcome::Unwell)
    })
}

impl From<StoreError> for ToolError {
    fn from(error: StoreError) -> Self {
        ToolError::Refused(format!("where files are kept: {error}"))
    }
}

impl From<EraseError> for ToolError {
    fn from(error: EraseError) -> Self {
        match error {
            EraseError::Log(error) => error.into(),
            EraseError::Database(error) => error.into(),
            other => ToolError::Refused(other.to_string()),
        }
    }
}
