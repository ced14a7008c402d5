package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"time"

	"inceptor/internal/host"
)

// openPage opens the page in a browser, once it is served. If it cannot, it says so: the demo goes
// on without. Its error is ctx's.
func openPage(ctx context.Context, listen string, a *app) error {
	if listen == "" {
		fmt.Fprintln(a.stderr, "inceptor: no browser was opened: http.listen is empty, so there is no page")
		return nil
	}
	for !accepts(ctx, listen) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	opener := "xdg-open"
	if runtime.GOOS == "darwin" {
		opener = "open"
	}
	page := "http://" + listen
	var said bytes.Buffer
	command := exec.Command(opener, page)
	command.Stdout, command.Stderr = &said, &said
	host.Detach(command) // the browser stays when the demo ends
	ended := make(chan error, 1)
	go func() { ended <- command.Run() }() // which may last as long as the browser
	select {
	case err := <-ended:
		if err != nil {
			fmt.Fprintf(a.stderr, "inceptor: no browser was opened (%v): open %s yourself\n%s", err, page, &said)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// accepts tells whether a server accepts connections at an address.
func accepts(ctx context.Context, address string) bool {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}
