// Command drop gives up all but two capabilities, and prints what is left to its threads and to a program that it starts.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/privileges"
)

func main() {
	var started, done sync.WaitGroup
	stop := make(chan bool)
	for range 4 { // threads that are there before
		started.Add(1)
		done.Add(1)
		go func() {
			defer done.Done()
			runtime.LockOSThread()
			started.Done()
			<-stop
		}()
	}
	started.Wait()
	if err := privileges.Drop(unix.CAP_SYS_ADMIN, unix.CAP_IPC_LOCK); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	threads, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(threads) < 5 {
		fmt.Fprintln(os.Stderr, threads, err)
		os.Exit(1)
	}
	for _, path := range threads {
		b, err := os.ReadFile(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Stdout.Write(b)
	}
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	fmt.Println("dumpable:", dumpable)
	close(stop)
	done.Wait()
	child := exec.Command("cat", "/proc/self/status")
	child.Stdout = os.Stdout
	if childErr := child.Run(); err != nil || childErr != nil {
		fmt.Fprintln(os.Stderr, err, childErr)
		os.Exit(1)
	}
}
