//! How messages are put into bytes and taken out again.

use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// Bytes that a message has at first; it gets more if it is longer. What tonic gives it, 8 KiB for each direction of each
/// call, is forty times what most of ours need, and beyond what allocators have at hand.
const FIRST_LEN: usize = 512;
/// Bytes after which a stream of messages is handed on: as tonic has it.
const HANDED_ON_LEN: usize = 32 * 1_024;

/// The codec of prost, for small messages. The services and clients that are generated from the schema use it.
#[derive(Debug, Clone, Copy)]
pub struct SmallCodec<T, U>(std::marker::PhantomData<(T, U)>);

impl<T, U> Default for SmallCodec<T, U> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<T, U> Codec for SmallCodec<T, U>
where
    T: prost::Message + Send + 'static,
    U: prost::Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(FIRST_LEN, HANDED_ON_LEN))
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(FIRST_LEN, HANDED_ON_LEN))
    }
}
