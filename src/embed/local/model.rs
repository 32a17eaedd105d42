//! A sentence model of the BERT family, such as all-MiniLM-L6-v2: tokens in, one vector out, by the
//! mean of the last layer over what is no padding (Reimers and Gurevych, 2019).

use std::fmt;
use std::path::{Path, PathBuf};

use candle_core::{D, DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use sha2::{Digest as _, Sha256};
use tokenizers::Tokenizer;

use crate::embed::{EmbedError, Embedding};

/// The weights.
const WEIGHTS: &str = "model.safetensors";
/// The vocabulary and how to use it.
const TOKENIZER: &str = "tokenizer.json";
/// The shape; that of all-MiniLM-L6-v2 where there is no such file.
const SHAPE: &str = "config.json";
/// The files without which there is no model.
pub const FILES: [&str; 2] = [WEIGHTS, TOKENIZER];
/// The most word pieces of a text that the model was trained to read, its two marks included.
pub const MAX_TOKENS: usize = 256;
/// A text with more bytes is too long without being taken apart.
const MAX_BYTES: usize = 64 * MAX_TOKENS;

/// Why a folder holds no model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} is not usable: {problem}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// A model in memory.
pub(super) struct Model {
    bert: BertModel,
    config: Config,
    space: String,
    tokenizer: Tokenizer,
}

/// The numbers of a text, at least two: it begins and ends with a mark.
#[derive(Debug)]
pub(super) struct Tokens(Vec<u32>);

// === impl Tokens ===

impl Tokens {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

// === impl Model ===

impl Model {
    /// Reads a model from a folder.
    ///
    /// # Errors
    ///
    /// Where a file is missing or does not fit the others.
    pub(super) fn open(folder: &Path) -> Result<Self, ModelError> {
        let config = config(&folder.join(SHAPE))?;
        let path = folder.join(WEIGHTS);
        let bytes = read(&path)?;
        let digest = Sha256::digest(&bytes);
        let start: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let content = |error: candle_core::Error| {
            let problem = error.to_string();
            ModelError::Content { path: path.clone(), problem }
        };
        let weights = VarBuilder::from_buffered_safetensors(bytes, DType::F32, &Device::Cpu)
            .map_err(content)?;
        let bert = BertModel::load(weights, &config).map_err(content)?;
        let tokenizer = tokenizer(&folder.join(TOKENIZER), config.vocab_size)?;
        let space = format!("bert-{}-{start}", config.hidden_size);
        Ok(Self { bert, config, space, tokenizer })
    }

    /// How many numbers a vector has.
    pub(super) fn dimensions(&self) -> usize {
        self.config.hidden_size
    }

    /// A name that changes with the weights.
    pub(super) fn space(&self) -> &str {
        &self.space
    }

    /// The most word pieces of a text, its two marks included.
    pub(super) fn max_tokens(&self) -> usize {
        MAX_TOKENS.min(self.config.max_position_embeddings)
    }

    /// Takes a text apart.
    ///
    /// # Errors
    ///
    /// Where it has more word pieces than the model reads.
    pub(super) fn tokens(&self, text: &str) -> Result<Tokens, EmbedError> {
        let limit = self.max_tokens();
        if text.len() > MAX_BYTES {
            return Err(EmbedError::TooLong { limit });
        }
        let encoding = self
            .tokenizer
            .encode_fast(text, true)
            .map_err(|error| EmbedError::Failed { detail: error.to_string() })?;
        if encoding.len() > limit {
            return Err(EmbedError::TooLong { limit });
        }
        Ok(Tokens(encoding.get_ids().to_vec()))
    }

    /// One vector a text.
    ///
    /// # Errors
    ///
    /// Where the weights make no vector of them.
    pub(super) fn embed(&self, texts: &[&Tokens]) -> Result<Vec<Embedding>, EmbedError> {
        let failed = |detail: String| EmbedError::Failed { detail };
        let rows = self.forward(texts).map_err(|error| failed(error.to_string()))?;
        let directions: Option<Vec<Embedding>> = rows.into_iter().map(Embedding::towards).collect();
        directions.ok_or_else(|| failed("the model made no vector".to_owned()))
    }

    /// The sum of the last layer over the tokens of each text, which has the direction of the mean.
    fn forward(&self, texts: &[&Tokens]) -> candle_core::Result<Vec<Vec<f32>>> {
        let longest = texts.iter().map(|text| text.len()).max().unwrap_or(0);
        let (mut words, mut is_text) = (Vec::new(), Vec::new());
        for Tokens(numbers) in texts {
            let padding = longest - numbers.len();
            let pad = u32::try_from(self.config.pad_token_id).unwrap_or(0);
            words.extend(numbers.iter().copied().chain(std::iter::repeat_n(pad, padding)));
            is_text.extend(numbers.iter().map(|_| 1.0_f32));
            is_text.extend(std::iter::repeat_n(0.0_f32, padding));
        }
        let shape = (texts.len(), longest);
        let is_padded = is_text.contains(&0.0);
        let words = Tensor::from_vec(words, shape, &Device::Cpu)?;
        let is_text = Tensor::from_vec(is_text, shape, &Device::Cpu)?;
        let segments = words.zeros_like()?;
        let last = self.bert.forward(&words, &segments, is_padded.then_some(&is_text))?;
        let counted =
            if is_padded { last.broadcast_mul(&is_text.unsqueeze(D::Minus1)?)? } else { last };
        counted.sum(1)?.to_vec2()
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("space", &self.space).finish_non_exhaustive()
    }
}

/// What `config.json` says, as Hugging Face writes it; that of all-MiniLM-L6-v2 where there is no
/// such file.
fn config(path: &Path) -> Result<Config, ModelError> {
    let content = |problem: String| ModelError::Content { path: path.to_owned(), problem };
    let config: Config = match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| content(error.to_string()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Config {
            hidden_size: 384,
            num_hidden_layers: 6,
            intermediate_size: 1_536,
            ..Config::default()
        },
        Err(source) => return Err(ModelError::Read { path: path.to_owned(), source }),
    };
    if config.model_type.as_deref().is_some_and(|kind| kind != "bert") {
        return Err(content("only models of type `bert` can be run".to_owned()));
    }
    let heads = config.num_attention_heads;
    if heads == 0 || !config.hidden_size.is_multiple_of(heads) {
        let problem = "`hidden_size` is no multiple of `num_attention_heads`";
        return Err(content(problem.to_owned()));
    }
    Ok(config)
}

/// A tokenizer that neither cuts nor pads, with at most so many words.
fn tokenizer(path: &Path, words: usize) -> Result<Tokenizer, ModelError> {
    let content = |problem: String| ModelError::Content { path: path.to_owned(), problem };
    let bytes = read(path)?;
    let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| content(error.to_string()))?;
    tokenizer.with_truncation(None).map_err(|error| content(error.to_string()))?;
    tokenizer.with_padding(None);
    let most = tokenizer.get_vocab(true).into_values().max().unwrap_or(0);
    if most as usize >= words {
        return Err(content(format!("it has the word {most}, the model knows {words} words")));
    }
    Ok(tokenizer)
}

fn read(path: &Path) -> Result<Vec<u8>, ModelError> {
    std::fs::read(path).map_err(|source| ModelError::Read { path: path.to_owned(), source })
}
