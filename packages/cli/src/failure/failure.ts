/** How a command ends. Scripts rely on it: a number never changes its meaning. The page of exit codes is made from this. */
export const EXIT_CODES = {
  0: 'Done.',
  1: 'It failed: a build, a release, or the server said no.',
  2: 'The command line, or a file of yours, is wrong. Nothing was begun.',
  3: 'The server was not reached, or is of a version that this command line does not understand.',
  4: 'The token is missing, wrong or expired, or does not allow this.',
  130: 'Ctrl-C.',
} as const
export type ExitCode = keyof typeof EXIT_CODES

/** What a person is told: what happened, why, and the command that mends it. */
export class Failure extends Error {
  readonly why: string | null
  /** Commands or deeds, the likeliest first. */
  readonly fixes: readonly string[]
  readonly exitCode: ExitCode
  /** For `--json`; null: one that follows from the exit code. */
  readonly code: string | null
  constructor(
    what: string,
    options: {
      readonly why?: string | null
      readonly fix?: string | readonly string[] | undefined
      readonly exitCode?: ExitCode
      readonly code?: string
      readonly cause?: unknown
    } = {},
  ) {
    super(what, options.cause === undefined ? {} : { cause: options.cause })
    this.name = 'Failure'
    this.why = options.why ?? null
    this.fixes = options.fix === undefined ? [] : [options.fix].flat()
    this.exitCode = options.exitCode ?? 1
    this.code = options.code ?? null
  }
}

/** The user's own command line is wrong. */
export function usage(what: string, fix?: string | readonly string[]): Failure {
  return new Failure(what, { fix, exitCode: 2 })
}

/** A command that has said all there is to say, and did not end well. */
export class Ended extends Error {
  /** Of what ran in a machine it is the program's own, whatever that means. */
  readonly exitCode: number
  constructor(exitCode: number) {
    super(`ended with ${exitCode}`)
    this.name = 'Ended'
    this.exitCode = exitCode
  }
}
