//! Reports of abuse.

use domain::log::By;
use domain::report::{CannotHandle, CannotReport, Filed, Outcome, Report, annotate, file, resolve, stream};
use domain::{ReportId, UserId};

use crate::{Commands, Failed, Receipt};

impl Commands {
    /// Tells the moderators about somebody.
    pub async fn report(
        &self,
        by: By,
        reporter: UserId,
        target: UserId,
        comment: String,
        category: String,
    ) -> Result<Receipt, Failed<CannotReport>> {
        let about = self.user(target).await?;
        let report = ReportId(self.ids.at(by.now));
        let new = Filed { report, reporter, target, comment, category };
        self.execute_first(&stream(report), &by, |current: &Report| file(current, &about, &new)).await
    }

    /// Says that a report has been seen to.
    pub async fn resolve_report(
        &self,
        by: By,
        report: ReportId,
        moderator: UserId,
        outcome: Option<Outcome>,
    ) -> Result<Receipt, Failed<CannotHandle>> {
        self.execute(&stream(report), &by, |current: &Report| resolve(current, report, moderator, outcome))
            .await
    }

    /// Notes something about a report.
    pub async fn annotate_report(
        &self,
        by: By,
        report: ReportId,
        text: &str,
    ) -> Result<Receipt, Failed<CannotHandle>> {
        self.execute(&stream(report), &by, |current: &Report| annotate(current, report, text)).await
    }
}
