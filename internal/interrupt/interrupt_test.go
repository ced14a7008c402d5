package interrupt

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// The first signal ends the context, and a later one the process.
func TestContext(t *testing.T) {
	if os.Getenv("INTERRUPT_TEST_CHILD") != "" {
		ctx, stop := Context()
		defer stop()
		fmt.Println("started")
		<-ctx.Done()
		fmt.Println("ended")
		select {}
	}
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=TestContext$")
			child.Env = append(os.Environ(), "INTERRUPT_TEST_CHILD=1")
			out, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			expect := func(want string) {
				t.Helper()
				if !lines.Scan() || lines.Text() != want {
					t.Fatalf("the child printed %q, want %q", lines.Text(), want)
				}
			}
			expect("started")
			_ = child.Process.Signal(sig)
			expect("ended")
			ended := make(chan error, 1)
			go func() { ended <- child.Wait() }()
			for {
				_ = child.Process.Signal(sig) // one that comes too early may be lost
				select {
				case err := <-ended:
					exit := (*exec.ExitError)(nil)
					if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != sig {
						t.Errorf("the child ended with %v", err)
					}
					return
				case <-time.After(50 * time.Millisecond):
				}
			}
		})
	}
}
