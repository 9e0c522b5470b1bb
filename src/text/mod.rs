//! From text to ids and to vectors: the model's own tokenizer, and static embedding models.

mod encoded;
mod static_model;
mod tokenizer;

pub use encoded::Encoded;
pub use static_model::StaticModel;
pub use tokenizer::{EncodedToken, Tokenizer};
