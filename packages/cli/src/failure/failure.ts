/** 0: done. 1: it failed. 2: the command line or a file of the user is wrong. 130: Ctrl-C. */
export type ExitCode = 0 | 1 | 2 | 130

/** What a person is told: what happened, why, and the command that mends it. */
export class Failure extends Error {
  readonly why: string | null
  /** Commands or deeds, the likeliest first. */
  readonly fixes: readonly string[]
  readonly exitCode: ExitCode
  constructor(
    what: string,
    options: {
      readonly why?: string | null
      readonly fix?: string | readonly string[] | undefined
      readonly exitCode?: ExitCode
      readonly cause?: unknown
    } = {},
  ) {
    super(what, options.cause === undefined ? {} : { cause: options.cause })
    this.name = 'Failure'
    this.why = options.why ?? null
    this.fixes = options.fix === undefined ? [] : [options.fix].flat()
    this.exitCode = options.exitCode ?? 1
  }
}

/** The user's own command line is wrong. */
export function usage(what: string, fix?: string | readonly string[]): Failure {
  return new Failure(what, { fix, exitCode: 2 })
}
