package ovhauth

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"gopkg.in/ini.v1"
)

// systemConf is a variable for the tests, which must not depend on the machine's.
var systemConf = "/etc/ovh.conf"

// confPaths are the files to read, the one of lowest precedence first: those given, else the default ones.
func confPaths(given []string) (paths []string, optional bool) {
	if optional = len(given) == 0; optional {
		given = []string{systemConf, "~/.ovh.conf", "./ovh.conf"}
	}
	for _, path := range given {
		if rest, ok := strings.CutPrefix(path, "~/"); ok {
			if home, err := os.UserHomeDir(); err == nil {
				path = filepath.Join(home, rest)
			}
		}
		paths = append(paths, path)
	}
	return paths, optional
}

// conf is what the files say, the one of highest precedence first.
type conf []confFile

type confFile struct {
	path     string
	sections map[string]map[string]string
}

// readConf reads the files in paths, the one of lowest precedence first. With an error it returns those that it could read.
func readConf(paths []string, optional bool) (c conf, failed error) {
	for _, path := range slices.Backward(paths) {
		text, err := os.ReadFile(path)
		if optional && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)) {
			continue // a home directory may be /dev/null
		}
		if err != nil {
			failed = cmp.Or(failed, permanentErrorf("cannot read the configuration: %w", err))
			continue
		}
		sections, line := parseConf(text)
		if line > 0 {
			failed = cmp.Or(failed, permanentErrorf("%s, line %d: neither a [section] nor key=value", path, line))
			continue
		}
		c = append(c, confFile{path, sections})
	}
	return c, failed
}

// confOptions and confKey make ini.v1 read a value as Python's RawConfigParser does: all that stands between the first = or :
// and the end of the line, but for the white space around it. A NUL in front of it hides quotes from ini.v1.
var confOptions = ini.LoadOptions{
	InsensitiveKeys:     true,
	IgnoreInlineComment: true,
	IgnoreContinuation:  true,
}

var confKey = regexp.MustCompile(`(?m)^(?:[ \t]*[^\[\s=:][^=:\n]*)?[=:]`)

// parseConf returns the sections of a file, or else the number of its first broken line.
func parseConf(text []byte) (sections map[string]map[string]string, broken int) {
	text = bytes.TrimPrefix(text, []byte("\uFEFF")) // the byte order mark of some editors
	text = confKey.ReplaceAll(text, []byte("${0}\x00"))
	file, err := ini.LoadSources(confOptions, text)
	if err != nil { // which must not be shown: it quotes the line, and the line may hold a secret
		for line := range bytes.Lines(text) {
			broken++
			if _, err := ini.LoadSources(confOptions, line); err != nil {
				break
			}
		}
		return nil, broken
	}
	sections = map[string]map[string]string{}
	for _, section := range file.Sections() {
		values := section.KeysHash()
		for key, value := range values {
			values[key] = strings.TrimSpace(strings.TrimPrefix(value, "\x00"))
		}
		sections[section.Name()] = values
	}
	return sections, 0
}

// get returns the value of highest precedence. An empty one is none.
func (c conf) get(section, key string) string {
	for _, file := range c {
		if value := file.sections[section][key]; value != "" {
			return value
		}
	}
	return ""
}

// profile returns the section of the profile in use, "" for none. The profile "default" is none: so the OVHcloud CLI's
// doc/profiles.md, which also says that nothing outside of a profile's section completes it.
func (c conf) profile() string {
	name := cmp.Or(strings.TrimSpace(os.Getenv("OVH_PROFILE")), c.get("default", "profile"))
	if name == "" || name == "default" {
		return ""
	}
	return "profile:" + name
}

func (c conf) endpoint() Endpoint {
	return cmp.Or(Endpoint(c.get(c.profile(), "endpoint")), Endpoint(c.get("default", "endpoint")), EU)
}

// sectionNames are the sections that hold credentials for e.
func (c conf) sectionNames(e *parsedEndpoint) ([]string, error) {
	if profile := c.profile(); profile != "" {
		if !slices.ContainsFunc(c, func(f confFile) bool { return f.sections[profile] != nil }) {
			return nil, permanentErrorf("there is no section [%s] in ovh.conf; OVH_PROFILE, or profile in [default], asks for it", profile)
		}
		named := Endpoint(c.get(profile, "endpoint"))
		if named == "" {
			return []string{profile}, nil
		}
		of, err := parseEndpoint(named)
		if err != nil {
			return nil, err
		}
		if of.same(e) {
			return []string{profile}, nil
		}
	}
	names := []string{e.name()}
	for _, file := range c {
		for _, name := range slices.Sorted(maps.Keys(file.sections)) {
			if of, err := parseEndpoint(Endpoint(name)); err == nil && of.same(e) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// sources are the sections with credentials for e, the one of highest precedence first.
func (c conf) sources(e *parsedEndpoint) ([]source, error) {
	names, err := c.sectionNames(e)
	var sources []source
	for _, file := range c {
		for _, name := range names {
			if values, ok := file.sections[name]; ok {
				sources = append(sources, source{"[" + name + "] of " + file.path, values, asWritten})
			}
		}
	}
	return sources, err
}
