//! What is noted of requests that take part in a rollout.

use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use crate::policy::rollout::{Arm, Event, Observation, Pair, Share, Traits};
use crate::units::MicroUsd;

/// One thing that is known of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// The rollout's id.
    pub rollout: Arc<str>,
    /// What is known.
    pub noted: Noted,
}

/// What is known. Exposures come before the outcomes of the same request.
///
/// Written as JSON with fields by their order, because there are two of every request; read from
/// text, with fields by their order or their names.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Noted {
    /// It is served by this side, whatever becomes of it.
    Exposed {
        /// The side.
        arm: Arm,
        /// The share by which it was drawn.
        share: Share,
        /// As in [`Observation`].
        unit: Option<u32>,
    },
    /// How it went.
    Observed(Observation),
    /// How it went on both sides.
    Compared(Pair),
    /// What the candidate's answer cost in a shadow stage, whatever came of it.
    Spent(MicroUsd),
}

// === impl Noted ===

impl Noted {
    /// What it is for the analysis; nothing where it is money alone.
    pub(super) fn event(self) -> Option<Event> {
        match self {
            Self::Exposed { arm, share, unit } => Some(Event::Exposed { arm, share, unit }),
            Self::Observed(observation) => Some(Event::Observed(observation)),
            Self::Compared(pair) => Some(Event::Compared(pair)),
            Self::Spent(_) => None,
        }
    }
}

impl Serialize for Noted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const NAME: &str = "Noted";
        match self {
            Self::Exposed { arm, share, unit } => {
                serializer.serialize_newtype_variant(NAME, 0, "exposed", &(arm, share, unit))
            }
            Self::Observed(observation) => {
                let Observation { arm, share, unit, hard, readings, traits } = observation;
                let Traits { caller, language, prompt_size, provider } = traits;
                let traits = (caller, language, prompt_size, provider);
                let fields = (arm, share, unit, hard, readings, traits);
                serializer.serialize_newtype_variant(NAME, 1, "observed", &fields)
            }
            Self::Compared(pair) => serializer.serialize_newtype_variant(NAME, 2, "compared", pair),
            Self::Spent(cost) => serializer.serialize_newtype_variant(NAME, 3, "spent", cost),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::rollout::{Guardrail, HardFailure, Readings};

    fn notes() -> Vec<Noted> {
        let share = Share::from_percent(5.0).expect("a share");
        let readings = Readings::default().with(Guardrail::Errors, 0.0);
        let traits = Traits {
            caller: Some("app".into()),
            language: Some("en".into()),
            prompt_size: Some("short".into()),
            provider: Some("mock".into()),
        };
        let observation = |hard| Observation {
            arm: Arm::Candidate,
            share,
            unit: Some(7),
            hard,
            readings,
            traits: traits.clone(),
        };
        vec![
            Noted::Exposed { arm: Arm::Control, share, unit: None },
            Noted::Observed(observation(None)),
            Noted::Observed(observation(Some(HardFailure::Failed))),
            Noted::Compared(Pair { unit: None, candidate: readings, control: readings }),
            Noted::Spent(MicroUsd(3)),
        ]
    }

    #[test]
    fn notes_are_read_as_they_were_written() {
        let written = serde_json::to_string(&notes()).expect("JSON");
        assert_eq!(serde_json::from_str::<Vec<Noted>>(&written).expect("notes"), notes());
    }

    /// Those of a node that is yet to be updated.
    #[test]
    fn fields_by_their_names_are_read_as_well() {
        let share = Share::from_percent(5.0).expect("a share");
        let exposed = json!({"exposed": {"arm": "control", "share": share, "unit": null}});
        let Some(Noted::Observed(seen)) = notes().into_iter().nth(1) else { panic!("observed") };
        let observed = json!({"observed": serde_json::to_value(&seen).expect("JSON")});
        assert!(observed.pointer("/observed/traits/language").is_some_and(Value::is_string));
        let read: Vec<Noted> = serde_json::from_value(json!([exposed, observed])).expect("notes");
        assert_eq!(read, notes().into_iter().take(2).collect::<Vec<_>>());
    }
}
