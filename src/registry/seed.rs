//! What only files have goes into the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use sqlx::AnyConnection;

use super::labels::{LabelWrite, write_label};
use super::ledger::{checked_content, insert};
use super::refresh::Reach;
use super::table::Table;
use super::{Origin, Registry};
use crate::audit::{self, Actor, Event};
use crate::prompt::{Prompt, Prompts, Version};
use crate::store::{Leased, StoreError};

/// Versions and labels that one transaction writes.
const AT_A_TIME: usize = 200;

/// Something that a file has and the store does not.
enum Missing {
    Version(Arc<Prompt>, String),
    Label { id: String, label: String, version: Version },
}

// === impl Registry ===

impl Registry {
    /// Puts into the store what only files have: versions, and labels that the store never had.
    /// Several nodes may do so at once.
    pub(super) async fn seed(&self, connection: &mut Leased<'_>) -> Result<(), StoreError> {
        let files = Arc::clone(&self.shared.snapshot.load().prompts);
        let table = self.shared.table.load_full();
        let missing = table.map(|table| missing(&table, &files)).unwrap_or_default();
        for some in missing.chunks(AT_A_TIME) {
            self.seed_some(connection, some).await?;
        }
        if !missing.is_empty() {
            self.shared.following.on_changed_here();
            self.read(connection, Reach::News).await?;
        }
        Ok(())
    }

    async fn seed_some(
        &self,
        connection: &mut Leased<'_>,
        missing: &[Missing],
    ) -> Result<(), StoreError> {
        let (mut transaction, number) = self.begin_change(connection).await?;
        let failed = StoreError::query("store the prompts of files");
        match self.write_missing(&mut transaction, missing, number).await {
            Ok(true) => transaction.commit().await.map_err(failed)?,
            Ok(false) => transaction.rollback().await.map_err(failed)?,
            Err(error) => return Err(failed(error)),
        }
        connection.set_held(false);
        Ok(())
    }

    /// `false` where other nodes were first.
    async fn write_missing(
        &self,
        connection: &mut AnyConnection,
        missing: &[Missing],
        number: i64,
    ) -> Result<bool, sqlx::Error> {
        let now_ms = self.shared.clock.unix_ms();
        let by = Actor { name: "file".to_owned(), ..Actor::default() };
        let mut seeded: BTreeMap<&str, (Vec<String>, Vec<&str>)> = BTreeMap::new();
        for one in missing {
            match one {
                Missing::Version(prompt, content) => {
                    let (origin, by) = ((Origin::File, number), (by.name.as_str(), now_ms));
                    if insert(connection, prompt, content, origin, by).await? {
                        let (versions, _) = seeded.entry(prompt.id.as_str()).or_default();
                        versions.push(prompt.version.to_string());
                    }
                }
                Missing::Label { id, label, version } => {
                    let table = self.shared.table.load();
                    if table.as_deref().is_some_and(|table| table.label(id, label).is_some()) {
                        continue;
                    }
                    let write = LabelWrite {
                        prompt: id,
                        label,
                        version: Some(*version),
                        is_protected: false,
                        is_forced: false,
                    };
                    write_label(connection, &write, number, &by, now_ms).await?;
                    seeded.entry(id).or_default().1.push(label);
                }
            }
        }
        for (id, (versions, labels)) in &seeded {
            let event = Event {
                action: "prompt.seed",
                resource: format!("prompts/{id}"),
                before: None,
                after: Some(json!({ "versions": versions, "labels": labels })),
            };
            audit::record(connection, &by, &event, now_ms).await?;
        }
        Ok(!seeded.is_empty())
    }
}

fn missing(table: &Table, files: &Prompts) -> Vec<Missing> {
    let mut missing = Vec::new();
    for (id, versions) in files.iter() {
        for prompt in versions.iter() {
            if table.version(id, prompt.version).is_some() {
                continue;
            }
            match checked_content(prompt) {
                Ok(content) => missing.push(Missing::Version(Arc::clone(prompt), content)),
                Err(problem) => {
                    let file = prompt.file.display();
                    tracing::warn!(%file, problem, "this version stays with this node's files");
                }
            }
        }
    }
    for (id, versions) in files.iter() {
        for (label, version) in versions.labels() {
            if table.label(id.as_str(), label).is_none() {
                let (id, label) = (id.to_string(), label.to_owned());
                missing.push(Missing::Label { id, label, version });
            }
        }
    }
    missing
}
