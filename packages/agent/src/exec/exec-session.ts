import type { Readable, Writable } from 'node:stream'

/** A program to run in a machine that runs, beside the machine's own. */
export interface ExecRequest {
  /** One of the machine's containers. Absent: the machine's own program's, or the first one. */
  readonly container?: string | undefined
  /** Program and arguments; the program is looked for in the container's PATH. No shell. */
  readonly command: readonly string[]
  /** `name`, `uid`, `name:group` or `uid:gid` of the container. Absent: whom its program runs as. */
  readonly user?: string | undefined
  /** A terminal of this size. Absent: none, and three separate streams. */
  readonly terminal?: Terminal | undefined
}

export interface TerminalSize {
  readonly columns: number
  readonly rows: number
}

export interface Terminal extends TerminalSize {
  /** What TERM shall say, such as `xterm-256color`. */
  readonly type: string
}

/**
 * A program that was started. Its environment is that of the container's program. Whoever started it reads both outputs to
 * their ends, or closes it: a reader that is slow slows the program down, and nothing is lost.
 */
export interface ExecSession {
  /** `end` tells the program that nothing more comes. What a program doesn't read waits here and holds its writer up. */
  readonly stdin: Writable
  /** With a terminal it has all output. Ends when the program has ended and everything was read. */
  readonly stdout: Readable
  readonly stderr: Readable
  /** The program's exit code, or 128 and the signal that ended it. Never rejects. */
  readonly exit: Promise<number>
  /** Only with a terminal; else it does nothing. Too late is no error. */
  resize(size: TerminalSize): Promise<void>
  /** To the program and what it has started in its group: `SIGINT` and so on. Too late is no error. */
  signal(name: string): Promise<void>
  /** Kills what is left of it and of all that it started, and removes its traces. May be called again. Never rejects. */
  close(): Promise<void>
}

/** What came of a program that ran to its end, or as far as it was allowed to. */
export interface ExecResult {
  /** null: it was killed, since it took too long. */
  readonly exitCode: number | null
  readonly stdout: Buffer
  readonly stderr: Buffer
  /** Bytes that are missing at the end: more was said than was asked for. */
  readonly stdoutCut: number
  readonly stderrCut: number
}

export interface ExecLimits {
  readonly stdin?: Uint8Array | undefined
  /** It is killed after that, with all that it started. */
  readonly timeoutMs: number
  /** Of each stream this much is kept; the program goes on. Default 1 MB. */
  readonly outputBytesMax?: number
}

/** Numbers of the signals that may be sent to a program. */
export const EXEC_SIGNALS: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGUSR2: 12,
  SIGTERM: 15,
  SIGCONT: 18,
  SIGSTOP: 19,
  SIGTSTP: 20,
  SIGWINCH: 28,
}
