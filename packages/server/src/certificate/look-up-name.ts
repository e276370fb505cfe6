import { Resolver } from 'node:dns/promises'
import { challengeName, type DnsFacts, type Hostname, ownershipRecord } from '@roost/core'

const ASK_MS = 4000
/** A name that a wildcard stands for, and that nobody will have given an address of its own. */
const UNDER_WILDCARD = 'roost-check'
/** There is no such name, or nothing of that kind under it: an answer, and not the lack of one. */
const NOTHING = ['ENOTFOUND', 'ENODATA']

/** What the resolvers of this machine say of a name now. */
export async function lookUpName(hostname: Pick<Hostname, 'name' | 'app'>): Promise<DnsFacts> {
  const resolver = new Resolver({ timeout: ASK_MS / 2, tries: 2 })
  const timer = setTimeout(() => resolver.cancel(), ASK_MS)
  const name = hostname.name.replace(/^\*/, UNDER_WILDCARD)
  const answer = async (asking: Promise<readonly string[]>) => {
    try {
      return (await asking).map((one) => one.toLowerCase().replace(/\.$/, ''))
    } catch (error) {
      return NOTHING.includes((error as { code?: string }).code ?? '') ? [] : null
    }
  }
  try {
    const [a, aaaa, cname, challengeCname, ownership] = await Promise.all([
      answer(resolver.resolve4(name)),
      answer(resolver.resolve6(name)),
      answer(resolver.resolveCname(name)),
      answer(resolver.resolveCname(challengeName(hostname.name))),
      answer(
        resolver
          .resolveTxt(ownershipRecord(hostname).name)
          .then((texts) => texts.map((parts) => parts.join(''))),
      ),
    ])
    return { a, aaaa, cname, challengeCname, ownership }
  } finally {
    clearTimeout(timer)
  }
}
