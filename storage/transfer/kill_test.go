package transfer_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/transfer"
)

// These variables make the test binary a process that copies.
const (
	fromSetting = "CIMS_TRANSFER_FROM"
	toSetting   = "CIMS_TRANSFER_TO"
)

// work copies, and prints its progress.
func work(from, to string) int {
	ctx := context.Background()
	source, err := open(ctx, from)
	if err == nil {
		var target transfer.Storage
		if target, err = open(ctx, to); err == nil {
			err = transfer.Copy(ctx, source, target, func(p transfer.Progress) { fmt.Printf("%+v\n", p) })
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// TestKilled kills the copy at many moments, as a power cut or an operator would, and then
// continues it.
func TestKilled(t *testing.T) {
	t.Parallel()
	leads, kills := 4_000, 4
	if os.Getenv("CIMS_FAULTS") == "full" {
		leads, kills = 12_000, 8
	}
	eachWay(t, across, func(t *testing.T, from, to database) {
		fill(t, from)
		crm := from.manager(t)
		many := make([]cims.NewCustomer, leads)
		for i := range many {
			many[i] = cims.NewCustomer{FullName: fmt.Sprintf("Lead %06d %s", i, awkward)}
		}
		_, err := crm.AddCustomers(t.Context(), system, many, nil)
		require.NoError(t, err)
		from.exec(t, `UPDATE customer SET cims_version = 0 WHERE id % 3 = 0`)

		killed := 0
		for range kills {
			self, err := os.Executable()
			require.NoError(t, err)
			cmd := exec.CommandContext(t.Context(), self) //nolint:gosec // ourselves
			cmd.Env = append(os.Environ(), fromSetting+"="+from.url, toSetting+"="+to.url)
			stdout, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			lines := bufio.NewScanner(stdout)
			for range 1 + rand.N(12) { //nolint:gosec // no secret
				lines.Scan()
			}
			time.Sleep(rand.N(40 * time.Millisecond)) //nolint:gosec // no secret
			require.NoError(t, cmd.Process.Kill())
			if cmd.Wait() == nil { // it was faster
				break
			}
			if to.Ready(t.Context()) == nil { // it was not even begun, or finished
				continue
			}
			killed++
			t.Log("killed after", lines.Text())
			require.ErrorIs(t, to.Ready(t.Context()), transfer.ErrUnfinished)
		}
		require.NotZero(t, killed)
		if err = transfer.Copy(t.Context(), from, to, nil); err != nil {
			require.ErrorIs(t, err, transfer.ErrNotEmpty, "it was finished already")
		}
		require.NoError(t, to.Ready(t.Context()))
		require.Equal(t, from.dump(t), to.dump(t))
	})
}
