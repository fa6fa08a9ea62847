//! The wire schema of Netloft and its translation to the vocabulary.
