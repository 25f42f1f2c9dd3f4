package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"bellhop/processor/ticket"
)

func newKeygen() *cobra.Command {
	var add, stage, promote string
	var keep int
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Generate a key for tickets, or rotate the keys of a key file",
		Long: `Generate a key for tickets: 32 random bytes in base64. --add puts it first in a key file, creating the file if it does
not exist; a running Bellhop reloads it. Replicas do not reload at the same moment: --stage puts the new key last, where
it redeems tickets but issues none; when all replicas have that file, --promote moves it to the front. Old keys still
redeem tickets: keep them for as long as their tickets are valid (ticket.rotate and ticket.lifetime of the policies).`,
		Example: `  bellhop keygen --add keys
  bellhop keygen --stage keys    # then, when every replica has the file:
  bellhop keygen --promote keys`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case keep < 0:
				return fmt.Errorf("--keep %d: write 0 or more", keep)
			case cmd.Flags().Changed("add"):
				return rewriteKeys("--add", add, func(file []byte) ([]byte, error) { return ticket.AddKey(file, keep) })
			case cmd.Flags().Changed("stage"):
				return rewriteKeys("--stage", stage, ticket.StageKey)
			case cmd.Flags().Changed("promote"):
				return rewriteKeys("--promote", promote, func(file []byte) ([]byte, error) { return ticket.PromoteKey(file, keep) })
			default:
				_, err := fmt.Fprintln(cmd.OutOrStdout(), ticket.NewLine())
				return err
			}
		},
	}
	cmd.Flags().StringVar(&add, "add", "", "the key file in front of which to put the new key")
	cmd.Flags().StringVar(&stage, "stage", "", "the key file behind which to put the new key")
	cmd.Flags().StringVar(&promote, "promote", "", "the key file whose staged key is to be the newest")
	cmd.Flags().IntVar(&keep, "keep", 2, "with --add and --promote: how many of the keys before it stay")
	cmd.MarkFlagsMutuallyExclusive("add", "stage", "promote")
	return cmd
}

// rewriteKeys puts a whole file in the place of the old one, so that no reader sees half of it. Who could read the old
// one can read the new one: Bellhop may run as another user than the one who rotates its keys.
func rewriteKeys(flag, path string, change func([]byte) ([]byte, error)) error {
	if path == "" {
		return fmt.Errorf("%s: it names no file; write %s FILE", flag, flag)
	}
	if target, err := filepath.EvalSymlinks(path); err == nil { // the link stays one
		path = target
	}
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w; make the file readable, or choose another", flag, err)
	}
	next, err := change(content)
	if err != nil {
		return fmt.Errorf("%s %s: %w", flag, path, err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), ".bellhop-keys-*") // mode 0600
	if err != nil {
		return fmt.Errorf("%s %s: %w; make its folder writable, or choose another", flag, path, err)
	}
	err = permitAs(temporary, path)
	if err == nil {
		_, err = temporary.Write(next)
		err = errors.Join(err, temporary.Sync())
	}
	if err = errors.Join(err, temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s %s: %w", flag, path, err), os.Remove(temporary.Name()))
	}
	return nil
}

// permitAs gives a file the owner and the mode of another, if that exists.
func permitAs(file *os.File, path string) error {
	like, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if owner, ok := like.Sys().(*syscall.Stat_t); ok {
		if err := file.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
			return fmt.Errorf("the new file cannot belong to whom the old one does; run this as its owner or as root: %w", err)
		}
	}
	return file.Chmod(like.Mode().Perm()) // after the owner: a change of that can take bits off
}
