package ovhtest

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// list responds to the GET of a list: with the IDs of all that was found, or with a page of the objects if X-Pagination-Mode asks
// for it.
func list(c *call, r *http.Request, found map[int64]any) (any, *apiError) {
	ids := slices.Sorted(maps.Keys(found))
	mode := r.Header.Get("X-Pagination-Mode")
	if mode == "" {
		return append([]int64{}, ids...), nil // never null
	}
	size, err := count(r, "X-Pagination-Size", 5000)
	if err != nil {
		return nil, err
	}
	var first int
	switch mode {
	case "CachedObjectList-Pages":
		number, err := count(r, "X-Pagination-Number", 1)
		if err != nil {
			return nil, err
		}
		first = min(min(number-1, len(ids))*size, len(ids)) // the inner min keeps an int of 32 bits from overflowing
		c.header.Set("X-Pagination-Number", strconv.Itoa(number))
	case "CachedObjectList-Cursor":
		if first, err = count(r, "X-Pagination-Cursor", 0); err != nil || first > len(ids) {
			return nil, badRequest("Invalid X-Pagination-Cursor")
		}
		if first+size < len(ids) {
			c.header.Set("X-Pagination-Cursor-Next", strconv.Itoa(first+size))
		}
	default:
		return nil, badRequest("Invalid X-Pagination-Mode")
	}
	c.header.Set("X-Pagination-Elements", strconv.Itoa(len(ids)))
	c.header.Set("X-Pagination-Size", strconv.Itoa(size))
	objects := []any{}
	for _, id := range ids[first:min(first+size, len(ids))] {
		objects = append(objects, found[id])
	}
	return objects, nil
}

// count reads a header that holds a number, at least 1.
func count(r *http.Request, name string, unset int) (int, *apiError) {
	value := r.Header.Get(name)
	if value == "" {
		return unset, nil
	}
	n, err := strconv.ParseUint(value, 10, 16) // far more than a test lists
	if err != nil || n == 0 {
		return 0, badRequest("Invalid " + name)
	}
	return int(n), nil
}

// batched lets e respond for several IDs at once, if the header X-Ovh-Batch names what separates them in the path.
func batched(e endpoint) endpoint {
	type item struct {
		Key   string  `json:"key"`
		Value any     `json:"value"`
		Error *string `json:"error"`
	}
	return func(c *call, r *http.Request) (any, *apiError) {
		separator := r.Header.Get("X-Ovh-Batch")
		if separator == "" {
			return e(c, r)
		}
		var items []item
		for id := range strings.SplitSeq(r.PathValue("id"), separator) {
			r.SetPathValue("id", id)
			value, err := e(c, r)
			if err != nil {
				items = append(items, item{id, nil, &err.message})
			} else {
				items = append(items, item{id, value, nil})
			}
		}
		return items, nil
	}
}
