//! Which log the read models follow. Positions are those of one log: with another one, or one that began
//! anew, checkpoints mean nothing, and everything is filled again.

use sqlx::PgPool;

/// To be called with the identity of the log before projectors start: when it was another one before,
/// forgets every checkpoint. Returns whether anything is to be filled anew.
pub async fn follow_log(pool: &PgPool, identity: &str) -> sqlx::Result<bool> {
    let mut tx = pool.begin().await?;
    let before: Option<String> = sqlx::query_scalar("select identity from ops.followed_log for update")
        .fetch_optional(&mut *tx)
        .await?;
    if before.as_deref() == Some(identity) {
        return Ok(false);
    }
    sqlx::query(
        "insert into ops.followed_log (identity) values ($1)
         on conflict (one) do update set identity = excluded.identity",
    )
    .bind(identity)
    .execute(&mut *tx)
    .await?;
    let forgotten = sqlx::query("delete from ops.checkpoints").execute(&mut *tx).await?.rows_affected();
    sqlx::query("delete from ops.rebuilds").execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(forgotten > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[sqlx::test(migrations = "../migrations")]
    async fn checkpoints_are_forgotten_when_the_log_is_another(pool: PgPool) {
        let follow = async |identity: &str, anew: bool| {
            let checkpoint =
                "insert into ops.checkpoints (projector, version, position) values ('users', 1, 7)
                              on conflict do nothing";
            sqlx::query(checkpoint).execute(&pool).await.unwrap();
            assert_eq!(follow_log(&pool, identity).await.unwrap(), anew, "{identity}");
            let left: i64 =
                sqlx::query_scalar("select count(*) from ops.checkpoints").fetch_one(&pool).await.unwrap();
            assert_eq!(left, i64::from(!anew), "{identity}");
        };
        follow("postgres", false).await;
        follow("eventstore 1", true).await;
        follow("eventstore 1", false).await;
        follow("eventstore 2", true).await;
        follow("postgres", true).await;
        sqlx::query("delete from ops.followed_log").execute(&pool).await.unwrap();
        follow("postgres", true).await;
        follow("postgres", false).await;
    }
}
