import type { ProgramWord } from '@roost/api'
import type { Draining, HostDisk, HostId, Instant, Revision } from '@roost/core'

/** How far an edge has come, by its last word. */
export interface EdgePresence {
  readonly seenAt: Instant
  /** Everything up to this revision is carried out in its HAProxy. */
  readonly applied: Revision
  readonly draining: readonly Draining[]
}

export interface HeardWord {
  readonly version: string
  /** Its clock less the server's, but for the time on the way. */
  readonly clockOffsetMs: number
  readonly certificateExpiresAt: Instant | null
  /** Records that it can not work with. */
  readonly refused: readonly string[]
}

/**
 * Who was heard when, in memory: a server that has just started knows nothing and is told within two seconds.
 */
export interface Presence {
  agentHeard(host: HostId, at: Instant, applied: Revision, disk?: HostDisk | null): void
  edgeHeard(host: HostId, beat: EdgePresence): void
  /** A host has just joined: its silence counts from now on. */
  expectAgent(host: HostId, at: Instant): void
  /** It begins to hear records: from now on it may send requests by them, before it has said anything. */
  expectEdge(host: HostId, at: Instant): void
  /** When it began to hear records last; null: not since this server started. */
  edgeExpectedAt(host: HostId): Instant | null
  /** When the agent last spoke; before it did, when it joined or this server started. */
  agentSeenAt(host: HostId): Instant
  /** null: not since this server started. */
  agentHeardAt(host: HostId): Instant | null
  /** The host's fullest file system by its agent's last word; null: not said since this server started. */
  disk(host: HostId): HostDisk | null
  /** What a program said of itself; its clock is compared with the server's. */
  wordHeard(host: HostId, program: 'agent' | 'edge', at: Instant, word: ProgramWord): void
  word(host: HostId, program: 'agent' | 'edge'): HeardWord | null
  edge(host: HostId): EdgePresence | null
  edges(): ReadonlyMap<HostId, EdgePresence>
  forget(host: HostId): void
  /** By how much the server's clock was set since it started, in all. */
  movedMs(): number
  /** The server's clock was set by so much: everybody was heard as long ago as before. */
  move(byMs: number): void
  /** When an edge has come further, or what drains at it has changed. Returns a function that ends it. */
  onProgress(heard: () => void): () => void
}

export function createPresence(startedAt: Instant): Presence {
  let movedMs = 0
  const agents = new Map<HostId, Instant>()
  const expected = new Map<HostId, Instant>()
  const expectedEdges = new Map<HostId, Instant>()
  const disks = new Map<HostId, HostDisk>()
  const edges = new Map<HostId, EdgePresence>()
  const words = new Map<string, HeardWord>()
  const listeners = new Set<() => void>()

  return {
    agentHeard: (host, at, _applied, disk = null) => {
      if (disk !== null) disks.set(host, disk)
      agents.set(host, Math.max(at, agents.get(host) ?? 0))
    },
    edgeHeard: (host, beat) => {
      const before = edges.get(host)
      edges.set(host, beat)
      const news =
        before === undefined ||
        before.applied !== beat.applied ||
        JSON.stringify(before.draining) !== JSON.stringify(beat.draining)
      if (news) for (const heard of [...listeners]) heard()
    },
    wordHeard: (host, program, at, { version, clock, certificate_expires_at, refused = [] }) => {
      const certificateExpiresAt = certificate_expires_at ?? null
      const clockOffsetMs = clock - at
      words.set(`${program}/${host}`, { version, clockOffsetMs, certificateExpiresAt, refused })
    },
    word: (host, program) => words.get(`${program}/${host}`) ?? null,
    expectAgent: (host, at) => {
      expected.set(host, at)
    },
    expectEdge: (host, at) => {
      expectedEdges.set(host, at)
    },
    edgeExpectedAt: (host) => expectedEdges.get(host) ?? null,
    agentSeenAt: (host) => agents.get(host) ?? expected.get(host) ?? startedAt + movedMs,
    agentHeardAt: (host) => agents.get(host) ?? null,
    disk: (host) => disks.get(host) ?? null,
    edge: (host) => edges.get(host) ?? null,
    edges: () => edges,
    forget: (host) => {
      agents.delete(host)
      expected.delete(host)
      expectedEdges.delete(host)
      disks.delete(host)
      edges.delete(host)
      for (const program of ['agent', 'edge']) words.delete(`${program}/${host}`)
    },
    movedMs: () => movedMs,
    move: (byMs) => {
      movedMs += byMs
      for (const seen of [agents, expected, expectedEdges])
        for (const [host, at] of seen) seen.set(host, at + byMs)
      for (const [host, beat] of edges) edges.set(host, { ...beat, seenAt: beat.seenAt + byMs })
      for (const [program, word] of words)
        words.set(program, { ...word, clockOffsetMs: word.clockOffsetMs - byMs })
    },
    onProgress: (heard) => {
      listeners.add(heard)
      return () => listeners.delete(heard)
    },
  }
}
