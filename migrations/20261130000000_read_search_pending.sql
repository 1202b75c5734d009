-- New notes wait in a list of half a megabyte before they are sorted into the index, all together: a note has as
-- many entries there as it has different characters and pairs. A search reads that list as well.
alter index read.note_words_by_gram set (fastupdate = on, gin_pending_list_limit = 512);
