/** How many bytes of bodies may be kept at once, of all requests together. */
export interface BodyRoom {
  /** false: there is not so much left, and nothing was taken. */
  take(bytes: number): boolean
  give(bytes: number): void
}

export function createBodyRoom(bytesMax: number): BodyRoom {
  let left = bytesMax
  return {
    take(bytes) {
      if (bytes > left) return false
      left -= bytes
      return true
    },
    give(bytes) {
      left += bytes
    },
  }
}
