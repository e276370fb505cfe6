import { closeSync, fsyncSync, ftruncateSync, openSync, statSync } from 'node:fs'
import { open, rm, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from '@roost/base'
import { isNoSpace } from './no-space.ts'

/**
 * A file that holds some room back. A machine whose image is here needs a few blocks to start (its upper directory, a page of
 * containerd's database), and those must be had also when something else has filled the disk. It is given back by pieces,
 * so that what filled the disk does not get all of it at the first deed.
 */
export interface Reserve {
  /** Makes it whole again where there is room for it. */
  refill(): Promise<void>
  /** Gives a piece back; false when there is none left. */
  release(): boolean
  bytes(): number
}

const BYTES_MAX = 32 << 20
const BYTES_MIN = 2 << 20
const SHARE_MAX = 0.005
const PIECE = 1 << 20
const CHUNK = 1 << 20
const NAME = '.roost-reserve'

export function createReserve(folder: string, log: Logger): Reserve {
  const file = join(folder, NAME)
  const size = () => {
    try {
      return statSync(file).size
    } catch {
      return 0
    }
  }
  return {
    bytes: size,
    async refill() {
      const { bsize, blocks, bavail } = await statfs(folder)
      const share = blocks * bsize * SHARE_MAX
      const wanted = Math.floor(Math.min(BYTES_MAX, Math.max(BYTES_MIN, share)) / 4096) * 4096
      const missing = wanted - size()
      // Never the thing that fills the disk itself.
      if (missing <= 0 || bavail * bsize < 4 * missing) return
      const handle = await open(file, 'a', 0o600)
      try {
        const zeros = Buffer.alloc(Math.min(CHUNK, missing))
        for (let left = missing; left > 0; )
          left -= (await handle.write(zeros, 0, Math.min(zeros.length, left))).bytesWritten
        await handle.sync()
      } catch (error) {
        await rm(file, { force: true })
        log.warn('hold room back', { file, error })
      } finally {
        await handle.close()
      }
    },
    release() {
      const left = size()
      if (left === 0) return false
      try {
        const fd = openSync(file, 'r+')
        try {
          const { size: whole } = statSync(file)
          const piece = PIECE
          ftruncateSync(fd, Math.max(0, whole - piece))
          fsyncSync(fd)
        } finally {
          closeSync(fd)
        }
        return true
      } catch (error) {
        log.warn('give back room that was held', { file, error })
        return false
      }
    },
  }
}

/** More pieces than a reserve has. */
const TRIES_MAX = 40

/** Does what needs but a few blocks, with room that was held back where there is no other. */
export async function withReserve<T>(
  reserves: readonly Reserve[],
  deed: () => Promise<T>,
): Promise<T> {
  for (let tries = 0; ; tries++) {
    try {
      return await deed()
    } catch (error) {
      if (!isNoSpace(error) || tries >= TRIES_MAX) throw error
      const released = reserves.map((reserve) => reserve.release())
      if (!released.includes(true)) throw error
    }
  }
}
