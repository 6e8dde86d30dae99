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

// TestFaultTwoProcessesOnOneFile has two processes write into one SQLite file:
// nobody is told that it is busy.
func TestFaultTwoProcessesOnOneFile(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, sqliteURL(t), 5)
	told, leads := newTold(), times(40, 400)
	first, second := d.start(t, told, "first", leads), d.start(t, told, "second", leads)
	first.finish(t, false)
	second.finish(t, false)
	require.Len(t, told.stored, 2*leads*workerCallers, "%v %v", told.refused, told.unknown)
	found := d.check(t, told)
	report(t, "two processes on one file: %d leads, none refused, spread %d", found.leads, found.spread)
}

// TestFaultDiskFull has the file's disk fill up while leads come in. Whoever is
// refused is told so, what was acknowledged is there, and when there is room
// again it goes on by itself.
func TestFaultDiskFull(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=3m"); err != nil {
		t.Skipf("NOT TESTED: a full disk needs a small one, which only root can mount: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(disk, syscall.MNT_DETACH)) })
	d := newDatabase(t, sqliteScheme+filepath.Join(disk, "crm.db"), 5)
	crm, told := d.open(t), newTold()
	refusals := 0
	add := func(n int) bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		name := nameOf(n)
		customer, err := crm.AddCustomer(ctx, system, cims.NewCustomer{FullName: name, Notes: string(make9k())})
		told.note(name, customer, err)
		return err == nil
	}
	n := 0
	for ; refusals < 5; n++ {
		if !add(n) {
			refusals++
		}
		require.Less(t, n, 10_000, "the disk does not fill up")
	}
	require.Empty(t, told.unexpected)
	require.Positive(t, told.count())
	require.NoError(t, syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "size=64m"))
	require.Eventually(t, func() bool { n++; return add(n) }, patience, time.Millisecond, "there is room again")
	for range 20 {
		n++
		require.True(t, add(n))
	}
	found := d.check(t, told)
	refused, unknown := told.faults()
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
// and again: a write, a flush, for want of room. Whoever is refused is told so; what
// was acknowledged is there, and the file is sound.
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
			told := newTold()
			w := d.start(t, told, "worker", 0, strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64,fdatasync,fsync", "-e", "inject="+inject)
			for range times(1, 10) {
				w.requireFault(t)
				told.requireMore(t, 50)
			}
			w.finish(t, true)
			found := d.check(t, told)
			refused, unknown := told.faults()
			report(t, "%d leads acknowledged, 0 lost; %d calls refused, %d of unknown outcome, %d of those stored; the file is sound, spread %d",
				len(told.stored), refused, unknown, found.leads-len(told.stored), found.spread)
		})
	}
}

// requireFault waits until one more call was refused, or has an unknown outcome.
func (w *worker) requireFault(t *testing.T) {
	t.Helper()
	before, before2 := w.told.faults()
	require.Eventually(t, func() bool {
		refused, unknown := w.told.faults()
		return refused+unknown > before+before2
	}, patience, time.Millisecond, "nobody notices")
}
