//! Antennas.

use std::sync::Arc;

use domain::antenna::{Antennas, CannotTune, NoSuchAntenna, Settings, change, create, delete, look, stream};
use domain::list::{self, Lists};
use domain::log::By;
use domain::{AntennaId, UserId};

use crate::{Commands, Failed, Receipt};

impl Commands {
    /// Makes an antenna of somebody who may have so many.
    pub async fn create_antenna(
        &self,
        by: By,
        owner: UserId,
        id: AntennaId,
        settings: Settings,
        limit: usize,
    ) -> Result<Receipt, Failed<CannotTune>> {
        let lists: Arc<Lists> = self.load(&list::stream(owner)).await?;
        self.execute(&stream(owner), &by, |antennas: &Antennas| {
            create(antennas, &lists, owner, id, settings.clone(), limit)
        })
        .await
    }

    /// Changes an antenna of one's own.
    pub async fn change_antenna(
        &self,
        by: By,
        owner: UserId,
        id: AntennaId,
        how: impl Fn(&mut Settings),
        limit: usize,
    ) -> Result<Receipt, Failed<CannotTune>> {
        let lists: Arc<Lists> = self.load(&list::stream(owner)).await?;
        self.execute(&stream(owner), &by, |antennas: &Antennas| {
            change(antennas, &lists, owner, id, &how, limit)
        })
        .await
    }

    /// Deletes an antenna of one's own.
    pub async fn delete_antenna(
        &self,
        by: By,
        owner: UserId,
        id: AntennaId,
    ) -> Result<Receipt, Failed<NoSuchAntenna>> {
        self.execute(&stream(owner), &by, |antennas: &Antennas| delete(antennas, owner, id)).await
    }

    /// Notes that somebody looks at what their antenna heard, once a day.
    pub async fn use_antenna(
        &self,
        by: By,
        owner: UserId,
        id: AntennaId,
    ) -> Result<Receipt, Failed<NoSuchAntenna>> {
        self.execute(&stream(owner), &by, |antennas: &Antennas| look(antennas, owner, id, by.now)).await
    }
}
