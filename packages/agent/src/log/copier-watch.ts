import {
  closeSync,
  constants,
  openSync,
  readlinkSync,
  rmSync,
  statfsSync,
  writeSync,
} from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Clock, type Logger, type Loop, runCommand, startLoop } from '@roost/base'
import type { ContainerId } from '../container-id.ts'
import { type Mark, newMark } from './copier-mark.ts'

/** What runs just now, with an output of its own. */
export interface MachineRun {
  readonly id: ContainerId
  readonly startedAt: number
  /** Its first process: our own init, which holds the machine's output open. */
  readonly pid: number
}

export interface CopierWatchOptions {
  readonly rawDir: string
  readonly runs: () => Promise<readonly MachineRun[]>
  /** Shown what arrived in a log with a mark in it. */
  readonly watchMarks: (heard: (id: ContainerId, data: Buffer) => void) => void
  readonly onDead: (run: MachineRun) => Promise<void>
  readonly clock: Clock
  readonly log: Logger
  /** Between two laps. Default 10 s. */
  readonly periodMs?: number
  /** A mark that is not in the log by then is lost. Default 10 s: disks may be slow. */
  readonly arrivalMs?: number
  /** Whoever copies is tried so often, and at once when the file system was seen full since. Default 60 s. */
  readonly triedMs?: number
}

const FULL_BYTES = 2 * 1024 * 1024
/** One lost mark may be bad luck: it may lie in what was dropped because there was too much of it. */
const LOST_MAX = 2
const STREAMS = [1, 2] as const

interface Trial {
  readonly startedAt: number
  triedAt: number
  /** In a row, the worse of its two streams. */
  lost: number
}

/**
 * Finds machines whose output nobody copies any more. A shim's copier ends for ever when it can't write, as on a full file
 * system, and then the program blocks as soon as 64 KB wait. Whether it lives is tried from end to end: a mark goes into the
 * machine's output where the program's own goes in, and must come out in its log. Each of the two streams has a copier.
 *
 * A machine is dead to us after two lost marks, sent while its log's file system could be written to.
 */
export function startCopierWatch(options: CopierWatchOptions): Loop {
  const { rawDir, clock, log } = options
  const { periodMs = 10_000, arrivalMs = 10_000, triedMs = 60_000 } = options
  const trials = new Map<ContainerId, Trial>()
  const awaited = new Map<string, () => void>()
  options.watchMarks((id, data) => {
    for (const [key, arrived] of awaited) {
      const [machine, mark = ''] = key.split(' ', 2)
      if (machine === id && data.includes(Buffer.from(mark, 'base64'))) arrived()
    }
  })

  /** False: it did not come. */
  async function arrives(id: ContainerId, mark: Mark, signal: AbortSignal): Promise<boolean> {
    const came = new AbortController()
    let arrived = false
    const key = `${id} ${mark.toString('base64')}`
    awaited.set(key, () => {
      arrived = true
      came.abort()
    })
    await clock.sleep(arrivalMs, AbortSignal.any([came.signal, signal]))
    awaited.delete(key)
    return arrived || signal.aborted
  }

  async function streamLives(run: MachineRun, fd: 1 | 2, signal: AbortSignal): Promise<boolean> {
    const path = `/proc/${run.pid}/fd/${fd}`
    if (!isOurs(run.pid) || !isPipe(path)) return true
    const mark = newMark()
    const arriving = arrives(run.id, mark, signal)
    const sent = await send(path, mark, arrivalMs)
    return sent === 'gone' || (sent === 'sent' && (await arriving))
  }

  async function tryRun(run: MachineRun, signal: AbortSignal): Promise<void> {
    const known = trials.get(run.id)
    const trial =
      known?.startedAt === run.startedAt ? known : { startedAt: run.startedAt, triedAt: 0, lost: 0 }
    trials.set(run.id, trial)
    const lives = await Promise.all(STREAMS.map((fd) => streamLives(run, fd, signal)))
    if (signal.aborted) return
    if (lives.every((one) => one)) {
      trial.lost = 0
      trial.triedAt = clock.now()
      return
    }
    trial.lost++
    if (trial.lost < LOST_MAX) return
    trials.delete(run.id)
    log.warn('nobody copies the output of a machine any more: starting it again', {
      machine: run.id,
    })
    await options.onDead(run)
  }

  async function lap(signal: AbortSignal): Promise<void> {
    // What can't be written is no fault of a copier's; and it would die again.
    const writable = await canWrite(rawDir)
    if (!writable) {
      for (const trial of trials.values()) trial.triedAt = 0
      return
    }
    const runs = await options.runs()
    const there = new Set(runs.map(({ id }) => id))
    for (const id of trials.keys()) if (!there.has(id)) trials.delete(id)
    const now = clock.now()
    const due = runs.filter(({ id, startedAt }) => {
      const trial = trials.get(id)
      if (trial === undefined || trial.startedAt !== startedAt || trial.lost > 0) return true
      return Math.abs(now - trial.triedAt) >= triedMs
    })
    await Promise.all(due.map((run) => tryRun(run, signal)))
  }

  return startLoop({
    name: 'copiers of logs',
    periodMs,
    clock,
    log,
    lap,
  })
}

/** Also false when so little is left that it may have been full a moment ago. */
async function canWrite(dir: string): Promise<boolean> {
  const probe = join(dir, '.probe')
  try {
    const { bavail, bsize } = statfsSync(dir)
    if (bavail * bsize < FULL_BYTES) return false
    await writeFile(probe, 'x'.repeat(4096))
    return true
  } catch {
    return false
  } finally {
    rmSync(probe, { force: true })
  }
}

/** The number may be another process's by now: ours are in the machine's root file system. */
function isOurs(pid: number): boolean {
  try {
    return readlinkSync(`/proc/${pid}/exe`).startsWith('/.roost/')
  } catch {
    return false
  }
}

function isPipe(path: string): boolean {
  try {
    return readlinkSync(path).startsWith('pipe:')
  } catch {
    return false
  }
}

/** `stuck`: there is no room in it, and none comes. `gone`: the process is. */
async function send(
  path: string,
  mark: Mark,
  timeoutMs: number,
): Promise<'sent' | 'stuck' | 'gone'> {
  let fd: number
  try {
    fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK)
  } catch (error) {
    // Without a reader it can't be opened: nobody will ever copy.
    return codeOf(error) === 'ENXIO' ? 'stuck' : 'gone'
  }
  try {
    writeSync(fd, mark)
    return 'sent'
  } catch (error) {
    if (codeOf(error) === 'EPIPE') return 'stuck'
    if (codeOf(error) !== 'EAGAIN') return 'gone'
  } finally {
    closeSync(fd)
  }
  // Full in this moment, as it mostly is where a program writes more than is copied: wait with it, in a process of its own.
  const write = ['sh', '-c', 'printf %s "$1" > "$0"', path, mark.toString('latin1')] as const
  try {
    await runCommand(write, { timeoutMs })
    return 'sent'
  } catch {
    return 'stuck'
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}
