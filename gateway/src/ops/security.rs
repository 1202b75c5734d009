//! How people get in and are reached, as far as they and moderators are shown it.

use std::collections::HashMap;

use domain::ids::UserId;
use sqlx::PgPool;
use uuid::Uuid;

use super::second_factor::BACKUP_CODES;

/// What is shown of one person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Security {
    pub two_factor: bool,
    pub passkeys: bool,
    pub password_less: bool,
    pub backup_codes: usize,
}

impl Security {
    /// How many backup codes are left, in a word: `none`, `partial` or `full`.
    pub fn backup_stock(&self) -> &'static str {
        match self.backup_codes {
            0 => "none",
            BACKUP_CODES.. => "full",
            _ => "partial",
        }
    }
}

/// Of several people at once; of those with nothing there is no entry.
pub async fn load(pool: &PgPool, people: &[UserId]) -> sqlx::Result<HashMap<UserId, Security>> {
    type Row = (Uuid, bool, bool, bool, i32);
    let rows: Vec<Row> = sqlx::query_as(
        "select s.user_id, s.secret is not null, s.password_less,
                exists (select 1 from ops.passkeys p where p.user_id = s.user_id), cardinality(s.backup_codes)
           from ops.second_factors s where s.user_id = any($1)",
    )
    .bind(people.iter().map(|user| user.0).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    let row = |(user, two_factor, password_less, passkeys, codes): Row| {
        let security = Security {
            two_factor,
            passkeys,
            password_less: password_less && passkeys,
            backup_codes: usize::try_from(codes).unwrap_or_default(),
        };
        (UserId(user), security)
    };
    Ok(rows.into_iter().map(row).collect())
}
