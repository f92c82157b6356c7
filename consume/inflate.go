package consume

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// mostInflated bounds one batch when it is decompressed, in bytes: brokers take a MiB,
// compressed, unless they are told otherwise.
const mostInflated = 64 << 20

var errTooLarge = fmt.Errorf("it has more than %d MiB", mostInflated>>20)

// inflater decompresses batches. Its zero value is ready; it is used again.
type inflater struct {
	inflated []byte // what was decompressed since it was last emptied
	source   bytes.Reader
	gzip     *gzip.Reader
	lz4      *lz4.Reader
	zstd     *zstd.Decoder
}

// inflate appends what a codec, by its number in a batch's attributes, makes of packed to
// f.inflated, and gives that part of it. kafka-go's codecs would allocate what a length in
// snappy's framing says.
func (f *inflater) inflate(codec int, packed []byte) (plain []byte, err error) {
	begin := len(f.inflated)
	switch codec {
	case 1:
		err = f.inflateGzip(packed)
	case 2:
		err = f.inflateSnappy(packed)
	case 3:
		err = f.inflateLZ4(packed)
	case 4:
		err = f.inflateZstd(packed)
	default:
		err = fmt.Errorf("the compression %d is not known", codec)
	}
	if err != nil {
		f.inflated = f.inflated[:begin]
		return nil, err
	}
	return f.inflated[begin:], nil
}

func (f *inflater) inflateGzip(packed []byte) (err error) {
	f.source.Reset(packed)
	if f.gzip == nil {
		f.gzip, err = gzip.NewReader(&f.source)
	} else {
		err = f.gzip.Reset(&f.source)
	}
	if err != nil {
		return err
	}
	return f.readAll(f.gzip)
}

func (f *inflater) inflateLZ4(packed []byte) error {
	f.source.Reset(packed)
	if f.lz4 == nil {
		f.lz4 = lz4.NewReader(nil)
	}
	f.lz4.Reset(&f.source)
	return f.readAll(f.lz4)
}

// readAll appends what r gives.
func (f *inflater) readAll(r io.Reader) error {
	begin := len(f.inflated)
	for {
		if len(f.inflated) == cap(f.inflated) {
			f.inflated = slices.Grow(f.inflated, 64<<10)
		}
		n, err := r.Read(f.inflated[len(f.inflated):cap(f.inflated)])
		f.inflated = f.inflated[:len(f.inflated)+n]
		switch {
		case len(f.inflated)-begin > mostInflated:
			return errTooLarge
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

func (f *inflater) inflateZstd(packed []byte) (err error) {
	if f.zstd == nil {
		f.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(mostInflated))
		if err != nil {
			return err // the options are at fault
		}
	}
	begin := len(f.inflated)
	all, err := f.zstd.DecodeAll(packed, f.inflated)
	if err != nil {
		return err
	}
	if f.inflated = all; len(all)-begin > mostInflated {
		return errTooLarge
	}
	return nil
}

// xerial begins what Java's library makes of snappy: then two versions, and blocks, each
// behind its length, all int32. Others write one block, and nothing else.
const xerial = "\x82SNAPPY\x00"

const xerialHead = len(xerial) + 4 + 4

var errSnappy = errors.New("snappy: corrupt input")

func (f *inflater) inflateSnappy(packed []byte) error {
	if !bytes.HasPrefix(packed, []byte(xerial)) {
		return f.snappyBlock(packed, mostInflated)
	}
	if len(packed) < xerialHead {
		return errSnappy
	}
	begin := len(f.inflated)
	for packed = packed[xerialHead:]; len(packed) > 0; {
		if len(packed) < 4 {
			return errSnappy
		}
		n := int64(binary.BigEndian.Uint32(packed))
		packed = packed[4:]
		if n > int64(len(packed)) {
			return errSnappy
		}
		if err := f.snappyBlock(packed[:n], mostInflated-(len(f.inflated)-begin)); err != nil {
			return err
		}
		packed = packed[n:]
	}
	return nil
}

// snappyMost is how many bytes one byte of snappy can become at the most: three say
// that 64 are to be copied.
const snappyMost = 22

// snappyBlock appends a block that may have most bytes.
func (f *inflater) snappyBlock(block []byte, most int) error {
	n, err := snappy.DecodedLen(block)
	switch {
	case err != nil:
		return err
	case n > snappyMost*len(block):
		return errSnappy
	case n > most:
		return errTooLarge
	}
	f.inflated = slices.Grow(f.inflated, n)
	begin := len(f.inflated)
	plain, err := snappy.Decode(f.inflated[begin:begin+n], block)
	if err != nil {
		return err
	}
	f.inflated = f.inflated[:begin+len(plain)]
	return nil
}
