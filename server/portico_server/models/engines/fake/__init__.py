"""The engine `fake`, which gives scripted answers. For tests of this project, and of projects that use Portico."""
