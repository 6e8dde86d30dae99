//go:build linux

package faults

import (
	"context"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

// TestFaultTwoProcessesOnOneFile has two processes write into one SQLite file. No
// caller learns that it is busy.
func TestFaultTwoProcessesOnOneFile(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, sqliteURL(t), 5)
	answers, leads := newAnswers(), times(40, 400)
	first, second := d.start(t, answers, "first", leads), d.start(t, answers, "second", leads)
	first.finish(t, false)
	second.finish(t, false)
	require.Len(t, answers.stored, 2*leads*workerCallers, "%v %v", answers.refused, answers.unknown)
	found := d.check(t, answers)
	report(t, "two processes on one file: %d leads, none refused, spread %d", found.leads, found.spread)
}

// TestFaultDiskFull has the file's disk fill up while leads come in. Refused callers
// get an error, acknowledged leads are stored, and with room again the Manager goes
// on by itself.
func TestFaultDiskFull(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=3m"); err != nil {
		t.Skipf("NOT TESTED: a full disk needs a small one, which only root can mount: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(disk, syscall.MNT_DETACH)) })
	d := newDatabase(t, sqliteScheme+filepath.Join(disk, "crm.db"), 5)
	crm, answers := d.open(t), newAnswers()
	refusals := 0
	add := func(n int) bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		name := nameOf(n)
		customer, err := crm.AddCustomer(ctx, system, cims.NewCustomer{FullName: name, Notes: string(make9k())})
		answers.note(name, customer, err)
		return err == nil
	}
	n := 0
	for ; refusals < 5; n++ {
		if !add(n) {
			refusals++
		}
		require.Less(t, n, 10_000, "the disk does not fill up")
	}
	require.Empty(t, answers.unexpected)
	require.Positive(t, answers.count())
	require.NoError(t, syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "size=64m"))
	require.Eventually(t, func() bool { n++; return add(n) }, patience, time.Millisecond, "there is room again")
	for range 20 {
		n++
		require.True(t, add(n))
	}
	found := d.check(t, answers)
	refused, unknown := answers.faults()
	report(t, "disk full: %d leads stored, %d calls refused, %d of unknown outcome, the file is sound, spread %d",
		found.leads, refused, unknown, found.spread)
}

// make9k is a long note, so that a small disk is soon full.
func make9k() []byte {
	text := make([]byte, 9000)
	for i := range text {
		text[i] = 'x'
	}
	return text
}

// TestFaultDiskErrors has the disk fail in the middle of a process's writing, again
// and again: a write, a flush, for want of room. Refused callers get an error,
// acknowledged leads are stored, and the file is sound.
func TestFaultDiskErrors(t *testing.T) {
	t.Parallel()
	strace := need(t, "strace")
	for name, inject := range map[string]string{
		"write":   "pwrite64:error=EIO:when=300+97",
		"flush":   "fdatasync,fsync:error=EIO:when=40+23",
		"no room": "pwrite64:error=ENOSPC:when=300+61",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t, sqliteURL(t), 5)
			answers := newAnswers()
			w := d.start(t, answers, "worker", 0, strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64,fdatasync,fsync", "-e", "inject="+inject)
			for range times(1, 10) {
				w.requireFault(t)
				answers.requireMore(t, 50)
			}
			w.finish(t, true)
			found := d.check(t, answers)
			refused, unknown := answers.faults()
			report(t, "%d leads acknowledged, 0 lost; %d calls refused, %d of unknown outcome, %d of those stored; the file is sound, spread %d",
				len(answers.stored), refused, unknown, found.leads-len(answers.stored), found.spread)
		})
	}
}

// requireFault waits until one more call was refused, or has an unknown outcome.
func (w *worker) requireFault(t *testing.T) {
	t.Helper()
	before, before2 := w.answers.faults()
	require.Eventually(t, func() bool {
		refused, unknown := w.answers.faults()
		return refused+unknown > before+before2
	}, patience, time.Millisecond, "nobody notices")
}
