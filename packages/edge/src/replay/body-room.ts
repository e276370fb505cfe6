import { shareOf } from '../share.ts'

/** How many bytes of an app's bodies may be kept at once. */
export interface BodyRoom {
  /** false: there is not so much left, and nothing was taken. */
  take(bytes: number): boolean
  give(bytes: number): void
}

/** The room of each app: its share of what there is for all. */
export function createBodyRooms(bytesMax: number): (app: string) => BodyRoom {
  const taken = new Map<string, number>()
  let left = bytesMax
  return (app) => ({
    take(bytes) {
      const own = (taken.get(app) ?? 0) + bytes
      if (bytes > left || own > shareOf(bytesMax)) return false
      left -= bytes
      taken.set(app, own)
      return true
    },
    give(bytes) {
      const own = (taken.get(app) ?? 0) - bytes
      left += bytes
      if (own > 0) taken.set(app, own)
      else taken.delete(app)
    },
  })
}
