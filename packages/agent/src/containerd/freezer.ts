import { existsSync, readFileSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Clock, PlatformError } from '@roost/base'

const CGROUP2_MAGIC = 0x63677270
const ROOT = '/sys/fs/cgroup'
/** What waits for a disk stands still only when that has answered. */
const FREEZE_MS_MAX = 5_000
/**
 * With version 1, a program of several threads that becomes another (exec) waits for those that stand still already, and does not
 * stand still itself: when all has been told so often, all go on for a moment.
 */
const TOLD_MAX = 8
const LET_GO_MS = 10

/**
 * The kernel's freezer, version 1 or 2: all processes of a control group and of those below it stand still, keep their memory
 * and their connections, and go on where they were. What is asked for here is written in the kernel and nowhere else, so it
 * outlives the agent and containerd, and ends with the power.
 */
export interface Freezer {
  /** This group was told to freeze. Whether one above it was does not count; one that is gone is not frozen. */
  isFrozen(path: string): boolean
  /** Returns when every process stands still. When that takes too long, it is thawed again and the error says so. */
  freeze(path: string): Promise<void>
  /** Returns when the group itself is told to run. */
  thaw(path: string): void
}

export function openFreezer(clock: Clock, root = ROOT): Freezer {
  const files = statfsSync(root).type === CGROUP2_MAGIC ? version2(root) : version1(root)

  function tell(path: string, frozen: boolean): boolean {
    try {
      writeFileSync(files.state(path), frozen ? files.freeze : files.thaw)
      return true
    } catch (error) {
      if (isMissing(error)) return false
      throw error
    }
  }

  return {
    isFrozen: files.isTold,
    async freeze(path) {
      const deadline = clock.now() + FREEZE_MS_MAX
      for (let told = 1, pauseMs = 1; ; told++, pauseMs = Math.min(50, 2 * pauseMs)) {
        // Each time anew: what was forked meanwhile has to be told as well in version 1.
        if (!tell(path, true))
          throw new PlatformError('internal', `freeze ${path}`, {
            cause: new Error(
              files.exists()
                ? 'it has no control group: it does not run'
                : 'this host has no freezer for control groups',
            ),
            retry: files.exists() ? 'later' : 'never',
          })
        if (files.standsStill(path)) return
        if (clock.now() >= deadline) break
        await clock.sleep(pauseMs)
        if (told % TOLD_MAX !== 0 || files.standsStill(path)) continue
        tell(path, false)
        await clock.sleep(LET_GO_MS)
      }
      tell(path, false)
      throw new PlatformError('internal', `freeze ${path}`, {
        cause: new Error(`something in it does not stand still after ${FREEZE_MS_MAX / 1000} s`),
        retry: 'later',
      })
    },
    thaw(path) {
      if (files.isTold(path)) tell(path, false)
    },
  }
}

interface Files {
  readonly freeze: string
  readonly thaw: string
  exists(): boolean
  state(path: string): string
  isTold(path: string): boolean
  standsStill(path: string): boolean
}

function version1(root: string): Files {
  const hierarchy = join(root, 'freezer')
  return {
    freeze: 'FROZEN',
    thaw: 'THAWED',
    exists: () => existsSync(hierarchy),
    state: (path) => join(hierarchy, path, 'freezer.state'),
    isTold: (path) => read(join(hierarchy, path, 'freezer.self_freezing')) === '1',
    standsStill: (path) => read(join(hierarchy, path, 'freezer.state')) === 'FROZEN',
  }
}

function version2(root: string): Files {
  const state = (path: string) => join(root, path, 'cgroup.freeze')
  return {
    freeze: '1',
    thaw: '0',
    exists: () => true,
    state,
    isTold: (path) => read(state(path)) === '1',
    standsStill: (path) => /^frozen 1$/m.test(read(join(root, path, 'cgroup.events'))),
  }
}

/** '' where there is no such group. */
function read(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch (error) {
    if (isMissing(error)) return ''
    throw error
  }
}

/** ENODEV: the group went while its file was open. */
function isMissing(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException
  return code === 'ENOENT' || code === 'ENODEV'
}
