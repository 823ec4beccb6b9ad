/* Ranks a page by the words of its title that the query has. Lists come after tasks. */
var Scorer = {
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
  score: ([page, title, , , score]) => {
    const stemmer = new Stemmer();
    const stems = (text) =>
      splitQuery(text.toLowerCase())
        .filter((word) => word.length > 4 || !stopwords.has(word))
        .map((word) => stemmer.stemWord(word));
    const inTitle = new Set(stems(title));
    const query = new URLSearchParams(window.location.search).get("q") ?? "";
    const found = new Set(stems(query).filter((word) => inTitle.has(word)));
    const isList = /^(reference\/|faq|glossary|index|troubleshooting|concepts\/(design|performance))/;
    return score + 10 * found.size - (isList.test(page) ? 4 : 0);
  },
};

/* Finds pages with any of the words if no page has all of them: the most words first. */
const searchAll = Search.performTermsSearch;
Search.performTermsSearch = (words, excluded) => {
  const found = searchAll(words, excluded);
  if (found.length) return found;
  const pages = new Map();
  for (const word of words) {
    for (const result of searchAll(new Set([word]), excluded)) {
      result[4] += pages.get(result[0])?.[4] ?? 0;
      pages.set(result[0], result);
    }
  }
  return [...pages.values()];
};
