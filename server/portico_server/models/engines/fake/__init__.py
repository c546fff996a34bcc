"""The engine `fake`: scripted answers, for tests of this project and of projects that use it."""
