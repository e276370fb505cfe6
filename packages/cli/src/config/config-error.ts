import type { Place } from './toml-tree.ts'

export interface FileProblem {
  readonly at: Place
  readonly message: string
}

/** All that is wrong with a file, in the order of its lines. */
export class ConfigError extends Error {
  readonly path: string
  readonly problems: readonly FileProblem[]
  /** The whole file. */
  readonly content: string
  constructor(path: string, problems: readonly FileProblem[], content = '') {
    super(
      problems.map(({ at, message }) => `${path}:${at.line}:${at.column}: ${message}`).join('\n'),
    )
    this.name = 'ConfigError'
    this.path = path
    this.problems = problems
    this.content = content
  }
}
