package compat

func removePrograms() {}
