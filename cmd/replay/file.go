package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"drain/replay"
	"drain/router"
	"drain/settings"
)

// file reads a recording: JSON lines, the records as they were in the topic, in gzip, zstd or as they are. It is one
// partition.
type file struct {
	cfg   *config
	merge *replay.Merge
	watch *watch

	size    int64
	at      atomic.Int64 // bytes of the file that were read
	restart chan struct{}
	damage  error // run's
}

const (
	// maxLine is the longest record that is read from a file.
	maxLine = 1 << 20
	// together is how many records are given on at once.
	together = 256
)

func newFile(cfg *config, merge *replay.Merge, watch *watch) (*file, error) {
	info, err := os.Stat(cfg.file)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no file")
	}
	if err != nil {
		return nil, settings.UsageError{Err: fmt.Errorf("FILE: cannot use %q: %w: use one that --record wrote", cfg.file, nameless(err))}
	}
	return &file{cfg: cfg, merge: merge, watch: watch, size: info.Size(), restart: make(chan struct{}, 1)}, nil
}

// nameless is an error of a file without its name, which may be any text.
func nameless(err error) error {
	var (
		at *fs.PathError
		of *os.LinkError
	)
	switch {
	case errors.As(err, &at):
		return at.Err
	case errors.As(err, &of):
		return of.Err
	}
	return err
}

func (f *file) run(ctx context.Context) error {
	err := f.glance(ctx)
	for round := 1; err == nil; round++ {
		f.merge.Begin([]replay.Lane{{}})
		if err = f.read(ctx, round); err != nil {
			break
		}
		select {
		case <-f.restart:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if ctx.Err() != nil || errors.Is(err, errStopped) {
		err = f.damage
	}
	if err != nil {
		err = fmt.Errorf("read %q: %w", f.cfg.file, nameless(err))
	}
	return err
}

// glance looks for the target's host in the whole file before anything is sent.
func (f *file) glance(ctx context.Context) error {
	if len(f.watch.hosts) == 0 {
		return nil
	}
	reader := replay.NewReader(&replay.Choice{})
	err := f.lines(func(line []byte) error {
		r, seen := reader.Read(line, router.NoTime)
		if r != nil {
			r.Release()
		}
		if !f.watch.allows(seen.Host) {
			return errStopped
		}
		return ctx.Err()
	})
	if errors.Is(err, errStopped) || ctx.Err() != nil {
		return err
	}
	return nil // read tells of damage, after what was good
}

// begins is the time of the first record that has one.
func (f *file) begins() int64 {
	reader, at := replay.NewReader(&replay.Choice{}), int64(0)
	_ = f.lines(func(line []byte) error { // read tells of damage
		r, seen := reader.Read(line, router.NoTime)
		if r != nil {
			r.Release()
		}
		if seen.Time == router.NoTime {
			return nil
		}
		at = seen.Time
		return io.EOF
	})
	return at
}

// read reads the file once, for the merge.
func (f *file) read(ctx context.Context, round int) error {
	reader := replay.NewReader(&f.cfg.choice)
	var counts replay.Counts
	number, read := int64(0), replay.Read{Newest: f.begins()}
	add := func() error {
		read.Taken = func() { f.watch.saw(&counts) }
		err := f.merge.Add(ctx, 0, read)
		counts, read = replay.Counts{}, replay.Read{Newest: read.Newest}
		return err
	}
	err := f.lines(func(line []byte) error {
		r, seen := reader.Read(line, router.NoTime)
		if seen.Time == router.NoTime {
			seen.Time = read.Newest // as old as those before, or the first
		}
		if !f.watch.allows(seen.Host) {
			return errStopped // it is another file by now
		}
		counts.Add(seen)
		read.Newest = max(read.Newest, seen.Time)
		if r != nil {
			r.Time, r.Offset, r.Epoch = seen.Time, number, round
			read.Requests = append(read.Requests, r)
		}
		if number++; number%together != 0 {
			return nil
		}
		return add()
	})
	if errors.Is(err, errStopped) || ctx.Err() != nil {
		return err
	}
	f.damage = err // what was read before is good
	read.Finished = true
	return add()
}

// lines gives each line of the file that is not empty; one that is too long is nil. The line is lent.
func (f *file) lines(each func(line []byte) error) error {
	raw, err := os.Open(f.cfg.file)
	if err != nil {
		return err
	}
	defer raw.Close()
	f.at.Store(0)
	plain, err := decompressed(&counter{raw, &f.at})
	if err != nil {
		return err
	}
	defer plain.Close()
	lines := bufio.NewReaderSize(plain, maxLine)
	for {
		line, err := lines.ReadSlice('\n')
		tooLong := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = lines.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if line = bytes.TrimSpace(line); tooLong {
			line = nil
		}
		if tooLong || len(line) > 0 {
			if err := each(line); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
}

// counter counts what is read.
type counter struct {
	io.Reader
	n *atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// decompressed reads gzip, zstd or neither, by its first bytes.
func decompressed(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	switch magic, _ := b.Peek(4); {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(b)
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		d, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return io.NopCloser(b), nil
}

func (f *file) take(*replay.Request) bool { return true }
func (f *file) keep(*replay.Request) bool { return true }
func (f *file) shared() bool              { return false }
func (f *file) sent(*replay.Request)      {}
func (f *file) dropped(*replay.Request)   {}
func (f *file) note() string              { return "" }
func (f *file) ready() error              { return nil }

func (f *file) again() {
	select {
	case f.restart <- struct{}{}:
	default:
	}
}

func (f *file) progress() (all, read int64) { return f.size, f.at.Load() }

// recording is a file that is written. It has its name when it is complete: what was there before is there until then.
type recording struct {
	path    string
	file    *os.File
	packed  io.WriteCloser
	lines   *bufio.Writer
	records int64
}

func newRecording(path string) (r *recording, err error) {
	r = &recording{path: path}
	if info, found := os.Stat(path); found == nil && !info.Mode().IsRegular() {
		r.file, err = os.OpenFile(path, os.O_WRONLY, 0)
	} else {
		r.file, err = os.OpenFile(path+partly, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) // there may be addresses of users in it
	}
	if err != nil {
		return nil, settings.UsageError{Err: fmt.Errorf("RECORD: cannot write %q: %w", path, nameless(err))}
	}
	if strings.HasSuffix(path, ".zst") {
		if r.packed, err = zstd.NewWriter(r.file, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20)); err != nil {
			return nil, err
		}
	} else {
		r.packed = gzip.NewWriter(r.file)
	}
	r.lines = bufio.NewWriterSize(r.packed, 64<<10)
	return r, nil
}

// holds tells whether there is something in a file.
func holds(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() > 0
}

// partly is the end of the name of a recording that is being written.
const partly = ".part"

// add writes a request's record.
func (r *recording) add(request *replay.Request) error {
	record := request.Record
	if bytes.IndexByte(record, '\n') >= 0 {
		record = bytes.ReplaceAll(record, []byte("\n"), []byte(" ")) // which is the same to JSON
	}
	r.lines.Write(record)
	if err := r.lines.WriteByte('\n'); err != nil {
		return fmt.Errorf("write %q: %w", r.path, nameless(err))
	}
	r.records++
	return nil
}

// errNothing is that a recording without records would take the place of a file that is there.
var errNothing = errors.New("there was nothing to record, so what is there stays: nothing is left from where the group is, or --from, on; --from beginning records all of the topic")

// close completes the file. One without records is none, if it was not to be: then it is not kept. Nor does it take the place
// of one that is there.
func (r *recording) close(keep bool) error {
	err := errors.Join(r.lines.Flush(), r.packed.Close(), r.file.Close())
	switch written := r.file.Name(); {
	case err != nil || written == r.path:
	case r.records > 0 || keep && !holds(r.path):
		err = os.Rename(written, r.path)
	default:
		if err = os.Remove(written); err == nil && keep {
			err = errNothing
		}
	}
	if err != nil {
		return fmt.Errorf("write %q: %w", r.path, nameless(err))
	}
	return nil
}
