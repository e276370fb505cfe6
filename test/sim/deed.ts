import type { Wish } from './person.ts'

/**
 * Something that happens to a world, as data: chance draws them from a seed, and a story tells them one by one. Hosts are
 * told by their place in the list. What lasts, lasts `forMs`.
 */
export type Deed =
  | { readonly do: 'ask'; readonly wish: Wish }
  | {
      readonly do: 'kill agent'
      readonly host: number
      readonly forMs: number
      readonly loseDisk?: boolean
    }
  | { readonly do: 'kill edge'; readonly host: number; readonly forMs: number }
  | { readonly do: 'kill server'; readonly forMs: number }
  /** What its agent wrote in the last `lostMs` is lost, as without a sync. */
  | {
      readonly do: 'power off'
      readonly host: number
      readonly forMs: number
      readonly lostMs: number
    }
  /** Messages between these programs of these hosts and the server. */
  | {
      readonly do: 'cut'
      readonly hosts: readonly number[]
      readonly programs: readonly ('agent' | 'edge')[]
      readonly way: 'both' | 'to server' | 'from server'
      readonly forMs: number
    }
  /** `server` or the place of a host. */
  | { readonly do: 'set clock'; readonly of: number | 'server'; readonly byMs: number }
  | { readonly do: 'drift'; readonly of: number | 'server'; readonly ratio: number }
  | { readonly do: 'fill disk'; readonly of: number | 'server'; readonly forMs: number }
  | { readonly do: 'slow disk'; readonly writeMs: number; readonly forMs: number }
  | { readonly do: 'back up' }
  | { readonly do: 'restore'; readonly forMs: number }
  /** Powered off, removed at the server, and joined again: with its old disk or with none. */
  | {
      readonly do: 'remove host'
      readonly host: number
      readonly forMs: number
      readonly wiped: boolean
    }
  | { readonly do: 'lose container'; readonly host: number; readonly nth: number }
  | { readonly do: 'stray container'; readonly host: number; readonly id: string }
